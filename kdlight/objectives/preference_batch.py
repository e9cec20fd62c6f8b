"""Right and wrong sequences of one inputs: who is who, how long, and what to log of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlight.objectives.inputs import LossInputs


@dataclass(frozen=True)
class PreferenceBatch:
    """The sequences of a inputs, in the order of the batch.

    A sequence without a position that counts is on neither side.

    Attributes:
        mask: boolean ``(B, T)``, True where a position counts.
        lengths: ``(B,)``, its positions that count.
        chosen: boolean ``(B,)``, sequences to move towards.
        rejected: boolean ``(B,)``, sequences to move away from.
    """

    mask: Tensor
    lengths: Tensor
    chosen: Tensor
    rejected: Tensor

    @classmethod
    def of(cls, inputs: LossInputs) -> PreferenceBatch:
        """The sides of ``step``; without ``step.rejected`` all sequences are chosen."""
        mask, rejected = inputs.mask, inputs.rejected
        some = inputs.labels if mask is None else mask
        assert some is not None
        if mask is None:
            mask = torch.ones_like(some, dtype=torch.bool)
        lengths = mask.sum(-1)
        if rejected is None:
            rejected = torch.zeros_like(lengths, dtype=torch.bool)
        counts = lengths > 0
        return cls(mask, lengths, ~rejected & counts, rejected & counts)

    def on(self, side: Tensor) -> Tensor:
        """The mask ``(B, T)`` of one side."""
        return self.mask & side.unsqueeze(-1)

    def short(self, alpha: float) -> Tensor:
        """How many rejected sequences are so short that they outweigh the chosen ones by token.

        A token of a rejected sequence is pushed with alpha / n_l, one of a chosen sequence pulled
        with 1 / n_w: what both share (a closing, a prefix) goes down where n_l < alpha n_w. The
        k-th rejected sequence is compared with the k-th chosen one where there are as many, else
        with the chosen ones on average.
        """
        chosen, rejected = self.lengths[self.chosen], self.lengths[self.rejected]
        if len(chosen) != len(rejected):
            chosen = chosen.double().mean().nan_to_num(0.0)
        return (rejected < alpha * chosen).sum()


def check_preferences(inputs: LossInputs, name: str) -> None:
    """Raise a ValueError where the sequences of ``step`` cannot be told apart."""
    positions = inputs.student.shape[:-1]
    if len(positions) != 2:
        raise ValueError(
            f"{name} is about whole sequences: positions must have the shape (B, T), got"
            f" {tuple(positions)}"
        )
    rejected = inputs.rejected
    if rejected is not None and (
        rejected.shape != positions[:1] or rejected.dtype is not torch.bool
    ):
        raise ValueError(
            f"rejected must be one boolean a sequence, ({positions[0]},), got {rejected.dtype} of"
            f" shape {tuple(rejected.shape)}"
        )
