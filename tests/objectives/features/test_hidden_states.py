"""Hidden states: a slow reference, chunks, projectors, what is masked, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight.losses.features.feature_distance import KINDS
from kdlight.objectives import HiddenStates
from kdlight.reduce import Chunking
from tests.losses.features.reference import REFERENCE
from tests.objectives.features.samples import PAIRS, feature_inputs, randn

MASK = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]).bool()


class MLP(nn.Module):
    """A projector that is more than a product."""

    def __init__(self, ours: int, theirs: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(ours, 9), nn.GELU(), nn.Linear(9, theirs))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def bound(projector: Any = "auto", *, sizes: tuple[int, int] = (6, 8), **options: Any) -> Any:
    torch.manual_seed(0)
    objective = HiddenStates(PAIRS, projector=projector, sizes=sizes, **options)
    network = nn.ModuleDict({"layer": nn.Identity(), "teacher_layer": nn.Identity()})
    objective.bind(network, network)
    return objective.double()


def distances(student: Tensor, teacher: Tensor, kind: str) -> list[float]:
    return list(REFERENCE["feature_distance"](student.numpy(), teacher.numpy(), kind=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_positions_of_the_logits_are_masked_as_there(kind: Any) -> None:
    student, teacher = randn(3, 4, 6), randn(3, 4, 6, seed=1)
    inputs = feature_inputs(student, teacher, logits=torch.zeros(3, 4, 5), mask=MASK)
    loss = HiddenStates(PAIRS, kind=kind)(inputs)
    expected = sum(distances(student[MASK], teacher[MASK], kind))
    assert loss.total.item() == pytest.approx(expected, rel=1e-12)
    assert loss.count == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channel_dim", [None, 1, 2, -1, -2])
def test_the_mean_over_other_positions_counts_as_the_sample(
    kind: Any, channel_dim: int | None
) -> None:
    """Maps of three or more axes, beside logits with 3, 0 and 2 valid tokens."""
    shape = (3, 4, 2, 3) if channel_dim is None else (3, 6, 5)
    student, teacher = randn(*shape), randn(*shape, seed=1)
    inputs = feature_inputs(student, teacher, logits=torch.zeros(3, 4, 5), mask=MASK)
    loss = HiddenStates(PAIRS, kind=kind, channel_dim=channel_dim)(inputs)
    expected = 0.0
    for s, t, count in zip(student, teacher, (3, 0, 2), strict=True):
        axis = 0 if channel_dim in (None, 1, -2) else 1
        rows = [x.movedim(axis, -1).reshape(-1, x.shape[axis]) for x in (s, t)]
        own = distances(*rows, kind)  # type: ignore[arg-type]
        expected += count * sum(own) / len(own)
    assert loss.total.item() == pytest.approx(expected, rel=1e-12)
    assert loss.count == 5


def test_padding_is_left_out_of_the_mean() -> None:
    student, teacher = randn(2, 4, 3), randn(2, 4, 3, seed=1)
    padding = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    loss = HiddenStates(PAIRS)(feature_inputs(student, teacher, padding=padding))
    squares = (student - teacher).square().mean(-1)
    expected = squares[0, :3].mean() + squares[1, 0]
    torch.testing.assert_close(loss.total, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("positions", ["tokens", "map", "rows"])
@pytest.mark.parametrize("chunked", [True, Chunking(tokens=4, block=2), Chunking(tokens=2)])
@pytest.mark.parametrize("projector", ["auto", "none", MLP])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_give_the_same(kind: Any, projector: Any, chunked: Any, positions: str) -> None:
    width = 8 if projector == "none" else 6
    shape, teacher_shape = {
        "tokens": ((3, 4, width), (3, 4, 8)),
        "map": ((3, width, 2, 2), (3, 8, 2, 2)),
        "rows": ((3, width), (3, 8)),
    }[positions]
    objective = bound(projector, kind=kind)
    results = []
    for choice in (False, chunked):
        student = randn(*shape).requires_grad_()
        inputs = feature_inputs(
            student,
            randn(*teacher_shape, seed=1),
            logits=torch.zeros(3, 4, 5),
            mask=MASK,
            chunked=choice,
        )
        total = objective(inputs).total
        leaves = (student, *objective.parameters())
        results.append((total.detach(), *torch.autograd.grad(total, leaves)))
    assert all(gradient.abs().max() > 1e-6 for gradient in results[0])
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf])
@pytest.mark.parametrize("positions", ["tokens", "padded"])
@pytest.mark.parametrize("projector", ["linear", MLP])
def test_what_is_masked_does_not_reach_the_projector(
    projector: Any, positions: str, garbage: float
) -> None:
    objective, results = bound(projector), []
    logits, mask = (torch.zeros(3, 4, 5), MASK) if positions == "tokens" else (None, None)
    padding = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    kept = MASK if positions == "tokens" else padding
    for value in (0.0, garbage):
        student, teacher = (
            x.masked_fill(~kept[..., None], value) for x in (randn(3, 4, 6), randn(3, 4, 8, seed=1))
        )
        inputs = feature_inputs(
            student.requires_grad_(), teacher, logits=logits, mask=mask, padding=padding
        )
        leaves = (student, *objective.parameters())
        results.append(torch.autograd.grad(objective(inputs).total, leaves))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_the_gradient_is_that_of_the_formula() -> None:
    """Student, projector and weights of positions: a check by finite differences."""
    objective = bound("linear", sizes=(3, 2))
    mask = torch.tensor([[True, True], [False, False]])

    def total(student: Tensor, weight: Tensor) -> Tensor:
        inputs = feature_inputs(student, randn(2, 3, 2), logits=torch.zeros(2, 2, 5), mask=mask)
        return torch.func.functional_call(objective, {"projectors.0.weight": weight}, inputs).total

    leaves = randn(2, 3, 3, seed=1).requires_grad_(), randn(2, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(total, leaves)


@pytest.mark.parametrize("chunked", [False, True])
def test_half_precision_is_widened(chunked: bool) -> None:
    student, teacher = randn(3, 4, 6).bfloat16(), randn(3, 4, 8, seed=1).bfloat16()
    objective = bound("linear")
    exact = objective(feature_inputs(student.double(), teacher.double())).total
    loss = objective.float()(feature_inputs(student, teacher, chunked=chunked)).total
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("chunked", [False, True])
def test_autocast_reaches_the_projector_only(chunked: bool) -> None:
    student, teacher = randn(3, 4, 6).bfloat16(), randn(3, 4, 8, seed=1).bfloat16()
    objective = bound("linear").float()
    inputs = feature_inputs(student.requires_grad_(), teacher, chunked=chunked)
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(inputs).total
    loss.backward()
    projected = (student.detach() @ objective.projectors[0].weight.bfloat16().T).double()
    expected = 3 * (projected - teacher.double()).square().mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert objective.projectors[0].weight.grad.dtype == torch.float32


def test_the_default_dtype_does_not_round_the_weights_of_positions() -> None:
    mask = torch.arange(7) < torch.tensor([7, 5, 1])[:, None]
    student, teacher = randn(3, 3, 4), randn(3, 3, 4, seed=1)
    inputs = feature_inputs(student, teacher, logits=torch.zeros(3, 7, 5), mask=mask)
    expected = HiddenStates(PAIRS)(inputs).total
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = HiddenStates(PAIRS)(inputs).total
    finally:
        torch.set_default_dtype(torch.float32)
    assert (found.dtype, found) == (torch.float64, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "l1"}, "kind must be one of 'mse', 'smooth_l1', .*got 'l1'"),
        ({"projector": "mlp"}, "projector must be 'auto', 'linear', 'none' or a function"),
        ({"sizes": (3,)}, r"sizes must be the widths .*got \(3,\)"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HiddenStates(PAIRS, **options)


def test_the_channel_dim_is_an_integer_that_the_feature_has() -> None:
    with pytest.raises(TypeError, match="channel_dim must be an integer, got 1.5"):
        HiddenStates(PAIRS, channel_dim=1.5)  # type: ignore[arg-type]
    inputs = feature_inputs(randn(2, 3, 4), randn(2, 3, 4))
    for wrong in (0, 3, -3, -4):
        with pytest.raises(ValueError, match=f"channel_dim must be an axis after .*got {wrong} "):
            HiddenStates(PAIRS, channel_dim=wrong)(inputs)


def test_features_must_fit() -> None:
    with pytest.raises(ValueError, match="has 3 channels, and that of the teacher 5; a projector"):
        HiddenStates(PAIRS)(feature_inputs(randn(2, 3), randn(2, 5)))
    with pytest.raises(ValueError, match=r"positions \(2, 3\), and that of the teacher \(2, 4\)"):
        HiddenStates(PAIRS)(feature_inputs(randn(2, 3, 5), randn(2, 4, 5)))
    objective = bound("linear")
    with pytest.raises(ValueError, match="made for 6 channels, but the feature has 5; pass sizes="):
        objective(feature_inputs(randn(2, 5), randn(2, 8)))
    inputs = feature_inputs(randn(4, 5), randn(4, 5), logits=torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"positions \(4,\), and the logits \(2,\).* of samples"):
        HiddenStates(PAIRS)(inputs)
