"""SinkhornKD: the weights of its terms, its hyper-parameters, and the published sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import losses
from kdlight.callbacks import HyperparameterScheduler
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs, SinkhornKD
from kdlight.schedules import Linear
from tests.objectives.test_sinkhorn import MASK, close, sources
from tests.support import toy

sources = sources  # the fixture


def test_the_terms_are_weighted_means(sources: Any) -> None:
    student, teacher = sources
    labels = torch.randint(9, (3, 5)).masked_fill(~MASK, -100)
    inputs = LossInputs(student, teacher, labels, MASK)
    loss = SinkhornKD(cross_entropy=0.3, kd=0.5, sinkhorn=2.0, kd_temperature=3.0)(inputs).mean()
    kd = ForwardKL(temperature=3.0, temperature_squared=False)(inputs).mean()
    distance = losses.sinkhorn(student.logits(), teacher.logits(), mask=MASK)
    close(loss, 0.3 * CrossEntropy()(inputs).mean() + 0.5 * kd + 2.0 * distance)
    by_sequence = SinkhornKD(geometry="sequence")(inputs)
    assert by_sequence.count == 6
    assert by_sequence.parts["sinkhorn/points"] / by_sequence.count == 3


def test_hyper_parameters_of_terms_may_change(tmp_path: Path) -> None:
    module = toy.module(SinkhornKD(), dtype="float64")
    scheduler = HyperparameterScheduler("terms.sinkhorn.epsilon", Linear(1.0, 0.01, 2))
    trainer = toy.trainer(tmp_path, max_steps=3, callbacks=[scheduler], limit_val_batches=0)
    trainer.fit(module, toy.RaggedModule(4, count=16))
    term: Any = module.objective.terms["sinkhorn"]  # type: ignore[index]
    assert term.epsilon == pytest.approx(0.01)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": -1.0}, {"geometry": "token"}, {"reduction": "none"}, {"temperature": 0.0}]
)
def test_a_wrong_number_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        SinkhornKD(**wrong)


def test_the_reference_preset_is_the_published_sum() -> None:
    logits = torch.randn(16, 3), torch.randn(16, 3)
    labels = torch.randint(3, (16,))
    parts = SinkhornKD.reference()(LossInputs(*logits, labels)).parts
    published = losses.sinkhorn(*logits, reduction="sum")
    close(parts["sinkhorn"] / 16, published)
    assert SinkhornKD.reference(kd=1.0).weights == {"ce": 0.2, "kd": 1.0, "sinkhorn": 8e-4}
