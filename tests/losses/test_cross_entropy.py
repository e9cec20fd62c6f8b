"""Cross-entropy with labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.losses.test_loss_edges import V, all_close, each_type, logits, put
from tests.losses.test_losses import LABELS, close, gradients, leaf
from tests.support import reference


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 5, 7)])
def test_cross_entropy_is_the_references_for_any_number_of_axes(
    student: Tensor, shape: tuple[int, ...]
) -> None:
    logits = leaf(student.flatten()[: torch.Size(shape).numel()].view(shape))
    labels = LABELS.flatten()[: max(logits.numel() // 7, 1)].view(shape[:-1])
    rows = zip(logits.view(-1, 7), labels.flatten(), strict=True)
    expected = torch.stack([reference.cross_entropy(z, int(y)) for z, y in rows]).view(shape[:-1])
    values = losses.cross_entropy(logits, labels)
    close(values, expected, 1e-12)
    close(gradients(values, logits)[0], gradients(expected, logits)[0], 1e-12)
    assert losses.cross_entropy(logits.bfloat16(), labels.int()).dtype == torch.float32


@each_type
def test_cross_entropy_at_its_edges(dtype: torch.dtype) -> None:
    student = put(logits(dtype)[0], -math.inf, 0).requires_grad_()
    labels = torch.tensor([0, 5, -100])
    values = losses.cross_entropy(student, labels)
    assert values[0] == math.inf  # a label that the student forbids
    assert values[1].isfinite()
    assert values[2] == 0
    (slope,) = torch.autograd.grad(values.sum(), student)
    hot = torch.zeros(3, V, dtype=dtype).scatter(-1, labels.clamp(min=0).unsqueeze(-1), 1.0)
    expected = (student.detach().softmax(-1) - hot) * (labels >= 0).unsqueeze(-1)
    all_close([slope], [expected], 1e-6)
    empty = losses.cross_entropy(student[:0], labels[:0])
    assert empty.shape == (0,)
    assert empty.requires_grad
