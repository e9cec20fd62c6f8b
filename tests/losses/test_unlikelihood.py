"""Unlikelihood: its gradient, and its value at the edges."""

from __future__ import annotations

import math

import pytest
import torch

from kdlight import losses


@pytest.mark.parametrize("p", [1e-6, 0.3, 1 - 1e-6])
def test_the_push_of_redi_grows_and_that_of_unlikelihood_dies(p: float) -> None:
    logits = torch.tensor([[math.log(p), math.log1p(-p)]], dtype=torch.float64).requires_grad_()
    label = torch.tensor([0])
    redi = torch.autograd.grad(-losses.cross_entropy(logits, label).sum(), logits)[0]
    other = torch.autograd.grad(losses.unlikelihood(logits, label).sum(), logits)[0]
    assert redi[0, 0].item() == pytest.approx(1 - p)
    assert other[0, 0].item() == pytest.approx(p)


def test_unlikelihood_is_finite_where_the_label_is_certain() -> None:
    logits = torch.tensor([[1e4, 0.0, 1.0], [0.0, -torch.inf, -torch.inf]]).requires_grad_()
    values = losses.unlikelihood(logits, torch.tensor([0, 0]))
    assert values[0].item() == pytest.approx(1e4 - math.log1p(math.e))
    assert values[1] == torch.inf
    assert torch.autograd.grad(values.sum(), logits)[0].isfinite().all()


def test_unlikelihood_of_logits_far_from_zero() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    label = torch.tensor([1])
    far = losses.unlikelihood(logits + 2.0**20, label)
    torch.testing.assert_close(far, losses.unlikelihood(logits, label))


def test_unlikelihood_is_that_of_the_other_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.tensor([0, 4, 2, -100, 1, 3])
    values = losses.unlikelihood(logits, labels)
    kept = labels != -100
    p = logits.softmax(-1)[kept].gather(-1, labels[kept, None])[:, 0]
    torch.testing.assert_close(values[kept], -(1 - p).log())
    assert values[3] == 0
    assert torch.autograd.gradcheck(lambda z: losses.unlikelihood(z, labels), logits)
