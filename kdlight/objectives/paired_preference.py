"""The base class of objectives on the margin between a chosen and a rejected sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.preference_batch import PreferenceBatch, check_preferences
from kdlight.reduce import Loss, position_values
from kdlight.sources import Dense, LogitsSource, Projected


class PairedPreference(Objective):
    """A function of the log-probabilities of a chosen and of a rejected sequence.

    The loss is not linear in the log-probabilities, so both sequences of a pair must be in the same
    batch: the k-th rejected sequence is the partner of the k-th chosen one, in any order. A pair is
    left out if one of its sequences has no valid position. The unit is the pair.

    A subclass defines `pairs`.
    """

    needs = frozenset({"labels", "rejected"})
    unit = "pair"

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Tensor) -> Tensor:
        """Compute the log-probability of each label, ``(n, V), None, (n,) -> (n,)``."""
        return -losses.cross_entropy(student, labels)

    def pairs(self, sums: Tensor, reference: Tensor | None, lengths: Tensor) -> Tensor:
        """Compute the loss of each pair, ``(2, P), (2, P), (2, P) -> (P,)``.

        Args:
            sums: summed log-probabilities under the student; row 0 holds the chosen sequences,
                row 1 the rejected ones.
            reference: the same under the teacher, or None where the class needs no teacher.
            lengths: numbers of valid positions.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define pairs()")

    def check(self, inputs: LossInputs) -> None:
        """Check that everything needed is present, and that positions form sequences."""
        super().check(inputs)
        check_preferences(inputs, type(self).__name__)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum the loss over all pairs of the batch."""
        self.check(inputs)
        batch, pairs = PreferenceBatch.of(inputs), _pair_indices(inputs)
        lengths = batch.lengths[pairs]
        valid = (lengths > 0).all(0)  # of an empty sequence the log-probability is 0
        sums = self._sums(inputs.student, inputs, batch.mask)[pairs]
        reference = None
        if "teacher" in self.needs and inputs.teacher is not None:
            with torch.no_grad():
                reference = self._sums(inputs.teacher, inputs, batch.mask)[pairs]
        # a length of 1 for none, by which a loss may divide
        values = self.pairs(sums, reference, lengths.clamp(min=1).to(sums.dtype))
        lengths, log_probs = lengths * valid, (sums.detach() * valid).sum(-1)
        length = lengths.sum(-1)
        return Loss(
            total=values.masked_fill(~valid, 0.0).sum(),
            count=valid.sum(),
            parts={
                "chosen_sum": log_probs[0],
                "rejected_sum": log_probs[1],
                "chosen_length": length[0],
                "rejected_length": length[1],
                "short_rejected": (lengths[1] < lengths[0]).sum(),
            },
        )

    def _sums(self, source: LogitsSource, inputs: LossInputs, mask: Tensor) -> Tensor:
        """Sum the log-probabilities of each sequence, ``(B,)``."""
        # a teacher may be of any type, and some of them have all their logits at once only
        chunked = inputs.chunked if isinstance(source, (Dense, Projected)) else "auto"
        values = position_values(
            self.per_token_loss,
            source,
            None,
            inputs.labels,
            mask,
            chunked=chunked,
            row_group=inputs.row_group,
        )
        return values.sum(-1)


def _pair_indices(inputs: LossInputs) -> Tensor:
    """Return the indices ``(2, P)`` of the chosen and the rejected sequence of each pair."""
    assert inputs.rejected is not None
    chosen, rejected = (~inputs.rejected).nonzero()[:, 0], inputs.rejected.nonzero()[:, 0]
    if len(chosen) != len(rejected):
        raise ValueError(
            f"the batch has {len(chosen)} chosen and {len(rejected)} rejected sequences, which do"
            " not form pairs; use a TracesDataModule with kind='pairs', or REDI, which needs no"
            " pairs"
        )
    return torch.stack([chosen, rejected])
