"""The common ground of objectives on the margin between two sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.preference_batch import PreferenceBatch, check_preferences
from kdlight.reduce import Loss, token_values
from kdlight.sources import LogitsSource


class PairedPreference(Objective):
    """A function of the log-probabilities of a right and of a wrong sequence.

    It bends with the margin, so the two must meet: the k-th wrong sequence of a batch is the
    partner of the k-th right one, wherever they stand. A pair of which one side has no position
    that counts is left out. The unit is the pair.
    """

    needs = frozenset({"labels", "rejected"})
    unit = "pair"

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Tensor) -> Tensor:
        """The log-probability of each label, ``(n, V), None, (n,) -> (n,)``."""
        return -losses.cross_entropy(student, labels)

    def pairs(self, sums: Tensor, reference: Tensor | None, lengths: Tensor) -> Tensor:
        """The loss of each pair, from ``(2, P)`` of right and wrong sequences each."""
        raise NotImplementedError(f"{type(self).__name__} does not define pairs()")

    def check(self, inputs: LossInputs) -> None:
        """Besides what every objective needs: as many right sequences as wrong ones."""
        super().check(inputs)
        check_preferences(inputs, type(self).__name__)

    def forward(self, inputs: LossInputs) -> Loss:
        """The loss of every pair of the inputs."""
        self.check(inputs)
        sides, pairs = PreferenceBatch.of(inputs), _partners(inputs)
        whole = (sides.lengths[pairs] > 0).all(0)
        pairs, lengths = pairs[:, whole], sides.lengths[pairs[:, whole]]
        sums = self._sums(inputs.student, inputs, sides.mask)[pairs]
        reference = None
        if "teacher" in self.needs and inputs.teacher is not None:
            with torch.no_grad():
                reference = self._sums(inputs.teacher, inputs, sides.mask)[pairs]
        values = self.pairs(sums, reference, lengths.to(sums.dtype))
        log_probs, length = sums.detach().sum(-1), lengths.sum(-1)
        return Loss(
            total=values.sum(),
            count=torch.tensor(values.numel(), device=values.device),
            parts={
                "chosen_sum": log_probs[0],
                "rejected_sum": log_probs[1],
                "chosen_length": length[0],
                "rejected_length": length[1],
                "short_rejected": (lengths[1] < lengths[0]).sum(),
            },
        )

    def _sums(self, source: LogitsSource, inputs: LossInputs, mask: Tensor) -> Tensor:
        values = token_values(
            self.per_token_loss, source, None, inputs.labels, mask, chunked=inputs.chunked
        )
        return values.new_zeros(len(mask)).index_add(0, mask.nonzero()[:, 0], values)


def _partners(inputs: LossInputs) -> Tensor:
    """Indices ``(2, P)`` of right and wrong sequences, pair by pair."""
    rejected = inputs.rejected
    assert rejected is not None
    chosen, wrong = (~rejected).nonzero()[:, 0], rejected.nonzero()[:, 0]
    if len(chosen) != len(wrong):
        raise ValueError(
            f"the batch has {len(chosen)} chosen and {len(wrong)} rejected sequences, which make no"
            " pairs; use a TracesDataModule with kind='pairs', or REDI, which needs none"
        )
    return torch.stack([chosen, wrong])
