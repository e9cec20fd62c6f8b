"""Sinkhorn: the loss of all valid positions, in blocks, and of each micro-batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected
from kdlight.losses import sinkhorn
from kdlight.objectives import LossInputs, Sinkhorn
from kdlight.reduce import Chunking
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
    loss = Sinkhorn(**options)(LossInputs(student, teacher, mask=MASK, chunked=chunked))
    expected = sinkhorn(student.logits(), teacher.logits(), mask=MASK, **options)
    close(loss.mean(), expected)
    gradients = [torch.autograd.grad(x, leaves(student)) for x in (loss.mean(), expected)]
    close(*gradients)


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
    batches = [toy.pad([data[i] for i in part]) for part in (range(4), range(4, 8))]
    apart = [Sinkhorn(epsilon=1.0)(module.loss_inputs(batch)) for batch in batches]
    count = sum(loss.count.item() for loss in apart)
    loss, points = first_loss(4, 2)
    total = sum(loss.total.item() for loss in apart)
    assert loss == pytest.approx(total / count, rel=1e-6)  # logged in float32
    whole, all_points = first_loss(8, 1)
    assert all_points == count > points
    assert abs(whole - loss) > 1e-6  # a problem of fewer points is another one


def test_two_vocabularies_have_no_distance(sources: Any) -> None:
    student, teacher = sources
    with pytest.raises(ValueError, match="vocabularies differ: 9 and 8"):
        Sinkhorn()(LossInputs(student, teacher.logits()[..., :8]))


def test_the_unit_is_that_of_the_geometry() -> None:
    units = {kind: Sinkhorn(geometry=kind).unit for kind in ("batch", "sequence", "position")}
    assert units == {"batch": "token", "sequence": "sequence", "position": "position"}


def test_no_valid_position_is_zero_with_a_graph(sources: Any) -> None:
    student, teacher = sources
    for geometry in ("batch", "sequence", "position"):
        inputs = LossInputs(student, teacher, mask=MASK & False)
        loss = Sinkhorn(geometry=geometry)(inputs)
        assert loss.count == loss.total == loss.parts["points"] == 0
        assert not torch.autograd.grad(loss.total, student.hidden)[0].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -1.0},
        {"iterations": 0},
        {"geometry": "token"},
        {"reduction": "none"},
        {"gradient": "exact"},
        {"solver": "newton"},
        {"p": 3},
        {"temperature": 0.0},
    ],
)
def test_a_wrong_argument_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Sinkhorn(**wrong)
