"""The held-out KL is that of the validation, of the student as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import DistillationModule
from kdlight.callbacks.elastic.held_out import held_out_kl, metrics_temperature
from kdlight.models import sub_network
from kdlight.objectives import CrossEntropy, ForwardKL, HiddenStates
from tests.support import toy
from tests.support.elastic_fit import llama, module, trainer


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_it_is_the_metric_of_a_validation(temperature: float, tmp_path: Path) -> None:
    this = module(ForwardKL(temperature=temperature))
    batches, before = list(toy.loader(4)), torch.get_rng_state()
    value = held_out_kl(this, batches)
    assert torch.equal(before, torch.get_rng_state())
    assert this.training
    (metrics,) = trainer(tmp_path).validate(this, toy.loader(4), verbose=False)
    assert value == pytest.approx(metrics["val/forward_kl"], rel=1e-6)
    assert metrics_temperature(this) == temperature


def test_a_sub_network_need_not_have_the_features_of_the_objective() -> None:
    this = module(HiddenStates({"model.layers.2": "model.layers.2"}))
    student: Any = this.student
    whole = held_out_kl(this, list(toy.loader(4)))
    with sub_network(student.model, 2):
        assert held_out_kl(this, list(toy.loader(4))) != whole


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="batches must have valid positions"):
        held_out_kl(module(), [])
    without = DistillationModule(llama(), CrossEntropy())
    with pytest.raises(ValueError, match="logits of the student with those of a teacher"):
        held_out_kl(without, list(toy.loader(4)))
