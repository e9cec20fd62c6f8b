"""Chosen and rejected sequences of a batch, and their lengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlight.objectives.inputs import LossInputs


@dataclass(frozen=True)
class PreferenceBatch:
    """Which sequences of a batch are chosen and which are rejected, in the order of the batch.

    A sequence without a valid position is neither.

    Attributes:
        mask: boolean ``(B, T)``, True at valid positions.
        lengths: number of valid positions of each sequence, ``(B,)``.
        chosen: boolean ``(B,)``, True for chosen sequences.
        rejected: boolean ``(B,)``, True for rejected sequences.

    Example:
        >>> labels, rejected = torch.ones(3, 4).long(), torch.tensor([False, True, False])
        >>> inputs = LossInputs(torch.zeros(3, 4, 5), labels=labels, rejected=rejected)
        >>> PreferenceBatch.of(inputs).chosen
        tensor([ True, False,  True])
    """

    mask: Tensor
    lengths: Tensor
    chosen: Tensor
    rejected: Tensor

    @classmethod
    def of(cls, inputs: LossInputs) -> PreferenceBatch:
        """Read the sequences of ``inputs``; without ``inputs.rejected`` all are chosen."""
        mask, rejected = inputs.mask, inputs.rejected
        if mask is None:
            assert inputs.labels is not None
            mask = torch.ones_like(inputs.labels, dtype=torch.bool)
        lengths = mask.sum(-1)
        if rejected is None:
            rejected = torch.zeros_like(lengths, dtype=torch.bool)
        valid = lengths > 0
        return cls(mask, lengths, ~rejected & valid, rejected & valid)

    def positions(self, sequences: Tensor) -> Tensor:
        """Return the mask of valid positions in some of the sequences, ``(B,) -> (B, T)``."""
        return self.mask & sequences.unsqueeze(-1)

    def short_rejected(self, alpha: float) -> Tensor:
        """Count the rejected sequences so short that their tokens outweigh those of chosen ones.

        The gradient of a token has the weight alpha / n_l in a rejected sequence and 1 / n_w in a
        chosen one. The probability of what both share (a closing, a prefix) falls where
        n_l < alpha n_w. The k-th rejected sequence is compared with the k-th chosen one if there
        are as many of both, else with the mean length of the chosen ones.
        """
        # sorted instead of selected: how many there are of each would have to be known here
        lengths = self.lengths.float()  # and not the default dtype of a run in half precision
        chosen, rejected = (
            lengths[(~sequences).to(torch.uint8).argsort(stable=True)]
            for sequences in (self.chosen, self.rejected)
        )
        counts = self.chosen.sum(), self.rejected.sum()
        mean = self.length_of(self.chosen) / counts[0].clamp(min=1)
        chosen = torch.where(counts[0] == counts[1], chosen, mean)
        is_rejected = torch.arange(len(rejected), device=rejected.device) < counts[1]
        return (is_rejected & (rejected < alpha * chosen)).sum()

    def length_of(self, sequences: Tensor) -> Tensor:
        """Return the number of valid positions in some of the sequences, ``(B,) -> ()``."""
        return (self.lengths * sequences).sum()


def check_preferences(inputs: LossInputs, name: str) -> None:
    """Raise a ValueError if ``inputs`` are not sequences, or ``rejected`` does not fit them.

    Args:
        inputs: the inputs to check.
        name: name of the objective, for the error message.
    """
    positions = inputs.student.shape[:-1]
    if len(positions) != 2:
        raise ValueError(
            f"{name} compares whole sequences, so positions must have the shape (B, T), got"
            f" {tuple(positions)}"
        )
    rejected = inputs.rejected
    if rejected is None or (rejected.shape == positions[:1] and rejected.dtype is torch.bool):
        return
    raise ValueError(
        f"rejected must be one boolean per sequence, of shape ({positions[0]},), got"
        f" {rejected.dtype} of shape {tuple(rejected.shape)}"
    )
