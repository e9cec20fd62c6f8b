"""The Sinkhorn objective: the loss of all points, in blocks, in mixtures, over micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected, losses
from kdlight.callbacks import HyperparameterScheduler
from kdlight.losses import sinkhorn
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs, Sinkhorn, SinkhornKD
from kdlight.reduce import Chunking
from kdlight.schedules import Linear
from tests.support import toy

MASK = torch.tensor([[1, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0]]).bool()
OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum", "gradient": "implicit"},
    {"debiased": True, "relative_epsilon": True},
    {"geometry": "sequence"},
    {"geometry": "sequence", "reduction": "sum"},
    {"geometry": "position", "debiased": True, "p": 2},
]


@pytest.fixture
def sources() -> tuple[Projected, Projected]:
    hidden = [torch.randn(3, 5, width, dtype=torch.float64) for width in (4, 6)]
    heads = [nn.Linear(width, 9).double() for width in (4, 6)]
    heads[1].requires_grad_(False)
    return Projected(hidden[0].requires_grad_(), heads[0]), Projected(hidden[1], heads[1])


def leaves(source: Projected) -> list[Tensor]:
    assert isinstance(source.head, nn.Linear)
    return [source.hidden, source.head.weight]


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunked", [False, "auto", Chunking(tokens=2)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_mean_is_the_loss(sources: Any, options: dict[str, Any], chunked: Any) -> None:
    student, teacher = sources
    step = LossInputs(student, teacher, mask=MASK, chunked=chunked)
    loss = Sinkhorn(**options)(step)
    expected = sinkhorn(student.logits(), teacher.logits(), mask=MASK, **options)
    close(loss.mean(), expected)
    found = torch.autograd.grad(loss.mean(), leaves(student))
    close(found, torch.autograd.grad(expected, leaves(student)))


def test_the_number_of_points_is_reported(sources: Any) -> None:
    for geometry, unit, count, points in (
        ("batch", "token", 6, 6),
        ("sequence", "sequence", 2, 3),
        ("position", "position", 5, 1.2),
    ):
        objective = Sinkhorn(geometry=geometry)
        loss = objective(LossInputs(*sources, mask=MASK))
        assert (objective.unit, loss.count.item()) == (unit, count)
        assert (loss.parts["points"] / loss.count).item() == pytest.approx(points)


def test_the_mixture_weighs_means(sources: Any) -> None:
    student, teacher = sources
    labels = torch.randint(9, (3, 5)).masked_fill(~MASK, -100)
    step = LossInputs(student, teacher, labels, MASK)
    loss = SinkhornKD(cross_entropy=0.3, kd=0.5, sinkhorn=2.0, kd_temperature=3.0)(step).mean()
    kd = ForwardKL(temperature=3.0, temperature_squared=False)(step).mean()
    distance = sinkhorn(student.logits(), teacher.logits(), mask=MASK)
    close(loss, 0.3 * CrossEntropy()(step).mean() + 0.5 * kd + 2.0 * distance)
    by_sequence = SinkhornKD(geometry="sequence")(step)
    assert by_sequence.count == 6
    assert by_sequence.parts["sinkhorn/points"] / by_sequence.count == 3


def test_each_micro_batch_is_a_problem_of_its_own(tmp_path: Path) -> None:
    def first_loss(batch_size: int, accumulate: int) -> tuple[float, float]:
        module = toy.module(Sinkhorn(epsilon=1.0), dtype="float64")
        data = toy.RaggedModule(batch_size, count=8, silent=[])
        trainer = toy.trainer(
            tmp_path, max_steps=1, accumulate_grad_batches=accumulate, limit_val_batches=0
        )
        trainer.fit(module, data)
        logged = trainer.callback_metrics
        return logged["train/loss"].item(), logged["train/points"].item()

    module, data = toy.module(Sinkhorn(epsilon=1.0), dtype="float64"), toy.Ragged(8, silent=[])
    steps = [module.step(toy.pad([data[i] for i in part])) for part in (range(4), range(4, 8))]
    found = [Sinkhorn(epsilon=1.0)(step) for step in steps]
    count = sum(loss.count.item() for loss in found)
    loss, points = first_loss(4, 2)
    total = sum(loss.total.item() for loss in found)
    assert loss == pytest.approx(total / count, rel=1e-6)  # logged in float32
    whole, all_points = first_loss(8, 1)
    assert all_points == count > points
    assert abs(whole - loss) > 1e-6  # of fewer points, another problem


def test_its_numbers_may_be_moved(tmp_path: Path) -> None:
    module = toy.module(SinkhornKD(), dtype="float64")
    ramp = HyperparameterScheduler("terms.sinkhorn.epsilon", Linear(1.0, 0.01, 2))
    trainer = toy.trainer(tmp_path, max_steps=3, callbacks=[ramp], limit_val_batches=0)
    trainer.fit(module, toy.RaggedModule(4, count=16))
    term: Any = module.objective.terms["sinkhorn"]  # type: ignore[index]
    assert term.epsilon == pytest.approx(0.01)


def test_two_vocabularies_have_no_distance(sources: Any) -> None:
    student, teacher = sources
    with pytest.raises(ValueError, match="vocabularies differ: 9 and 8"):
        Sinkhorn()(LossInputs(student, teacher.logits()[..., :8]))


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
