"""Batches of chosen and rejected sequences, for tests of preference objectives."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives import LossInputs

V = 7
LENGTHS = torch.tensor([3, 6, 2, 4, 1, 5])


def preferences(rejected: list[bool], *, teacher: Tensor | None = None) -> LossInputs:
    """As many sequences as ``rejected`` has entries, of lengths 3, 6, 2, 4, 1 and 5."""
    generator = torch.Generator().manual_seed(1)
    lengths = LENGTHS[: len(rejected)]
    mask = torch.arange(6) < lengths[:, None]
    shape = (len(rejected), 6)
    z = torch.randn(*shape, V, dtype=torch.float64, generator=generator)
    labels = torch.randint(V, shape, generator=generator).masked_fill(~mask, -100)
    return LossInputs(z.requires_grad_(), teacher, labels, mask, rejected=torch.tensor(rejected))


def mean_log_probs(inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """Mean log-probabilities of chosen and of rejected sequences."""
    assert inputs.labels is not None
    assert inputs.rejected is not None
    sums, lengths = losses.sequence_log_probs(inputs.student.logits(), inputs.labels)
    means = sums / lengths
    return means[~inputs.rejected], means[inputs.rejected]


def grad(loss: Tensor, inputs: LossInputs) -> Tensor:
    """The gradient of a loss in the student's logits."""
    return torch.autograd.grad(loss, inputs.student.logits(), retain_graph=True)[0]
