"""The loss of a pair of modules: masked positions never matter, samples weigh as they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from kdlight.losses.features.feature_distance import KINDS
from kdlight.modules.layer_loss import LayerLoss
from kdlight.objectives import LossInputs


def evaluate(
    loss: LayerLoss, student: Tensor, teacher: Tensor, mask: Tensor | None, **fields: Any
) -> Tensor:
    positions = student.shape[:1] if mask is None else mask.shape
    inputs = LossInputs(torch.zeros(*positions, 1), mask=mask, **fields)
    return loss.pair_loss(student, teacher, inputs, 0)


def reference(kind: str, student: Tensor, teacher: Tensor) -> float:
    """Compute the distance of two rows, number by number."""
    s, t = student.double().tolist(), teacher.double().tolist()
    if kind == "mse":
        return sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s)
    if kind == "smooth_l1":
        gaps = [abs(a - b) for a, b in zip(s, t, strict=True)]
        return sum(g * g / 2 if g < 1 else g - 0.5 for g in gaps) / len(s)
    sizes = [sum(a * a for a in row) ** 0.5 for row in (s, t)]
    cosine = sum(a * b for a, b in zip(s, t, strict=True)) / sizes[0] / sizes[1]
    return 1 - cosine if kind == "cosine" else 2 - 2 * cosine


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_agree_with_a_loop(kind: str) -> None:
    student, teacher = torch.randn(2, 2, 3, 5, dtype=torch.float64)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    got = evaluate(LayerLoss({"a": "b"}, kind), student, teacher, mask)
    expected = sum(
        reference(kind, student[i, j], teacher[i, j]) for i, j in mask.nonzero().tolist()
    )
    assert got.item() == pytest.approx(expected, rel=1e-12)
    assert evaluate(LayerLoss({"a": "b"}, kind), student, student, mask).item() < 1e-15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_values_at_masked_places_never_matter(kind: str, value: float) -> None:
    student, teacher = torch.randn(2, 2, 3, 5)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    results = []
    for filled in (0.5, value):
        own = student.masked_fill(~mask[..., None], filled).requires_grad_()
        loss = evaluate(
            LayerLoss({"a": "b"}, kind), own, teacher.masked_fill(~mask[..., None], filled), mask
        )
        results.append((loss, *torch.autograd.grad(loss, own)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not results[1][1][~mask].any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_valid_position_the_gradient_is_zero(kind: str) -> None:
    student = torch.full((2, 3, 5), float("nan"), requires_grad=True)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    loss = evaluate(LayerLoss({"a": "b"}, kind), student, torch.zeros(2, 3, 5), mask)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    student = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    mask, teacher = torch.rand(2, 3) < 0.7, torch.randn(2, 3, 5, dtype=torch.float64)
    assert gradcheck(lambda x: evaluate(LayerLoss({"a": "b"}, kind), x, teacher, mask), student)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = (300 * torch.randn(2, 4, 64)).to(dtype)
    loss = evaluate(LayerLoss({"a": "b"}), student, teacher, None)
    assert loss.dtype == torch.float32
    expected = (student.double() - teacher.double()).square().mean(-1).sum().item()
    assert expected > 65504
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_a_map_beside_the_label_of_an_image_counts_as_that_image() -> None:
    student, teacher = torch.randn(2, 3, 7, 4, 5, dtype=torch.float64)
    mask = torch.tensor([True, False, True])
    got = evaluate(LayerLoss({"a": "b"}), student, teacher, mask)
    expected = (student - teacher)[mask].square().mean((1, 2, 3)).sum()
    torch.testing.assert_close(got, expected)
    # the channels are on axis 1, which matters for directions
    cosine = evaluate(LayerLoss({"a": "b"}, "cosine"), student, teacher, mask)
    per_place = 1 - torch.cosine_similarity(student, teacher, dim=1)
    torch.testing.assert_close(cosine, per_place[mask].mean((1, 2)).sum())
    last = evaluate(LayerLoss({"a": "b"}, "cosine", channel_dim=-1), student, teacher, mask)
    per_row = 1 - torch.cosine_similarity(student, teacher, dim=-1)
    torch.testing.assert_close(last, per_row[mask].mean((1, 2)).sum())


def test_tokens_beside_the_label_of_a_text_count_without_padding() -> None:
    student, teacher = torch.randn(2, 2, 3, 5)
    padding = torch.tensor([[True, True, False], [True, True, True]])
    distance = (student - teacher).square().mean(-1)
    got = evaluate(
        LayerLoss({"a": "b"}),
        student.masked_fill(~padding[..., None], float("nan")),
        teacher,
        torch.tensor([True, True]),
        feature_masks={"a": padding},
    )
    torch.testing.assert_close(got, distance[0, :2].mean() + distance[1].mean())


def test_outputs_of_other_positions_are_refused() -> None:
    loss = LayerLoss({"a": "b"})
    with pytest.raises(ValueError, match="'a' of the student returned .2, 4, 5., but that of the"):
        evaluate(loss, torch.zeros(2, 4, 5), torch.zeros(2, 3, 5), None)
    with pytest.raises(ValueError, match="must have one shape"):
        evaluate(loss, torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), None)
    with pytest.raises(ValueError, match="the first axis of both must be that of samples"):
        evaluate(loss, torch.zeros(2, 3, 5), torch.zeros(2, 3, 5), torch.ones(4).bool())
