"""The common ground of objectives on the margin between two sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.logits import LogitsSource
from kdlight.objectives.base import Objective, Step
from kdlight.objectives.sides import Sides, check_sides
from kdlight.reduce import Loss, token_values


class Pairwise(Objective):
    """A function of the log-probabilities of a right and of a wrong sequence.

    It bends with the margin, so the two must meet: the k-th wrong sequence of a batch is the
    partner of the k-th right one, wherever they stand. A pair of which one side has no position
    that counts is left out. The unit is the pair.
    """

    needs_teacher = False
    needs_labels = True
    unit = "pair"

    def rows(self, student: Tensor, teacher: Any, labels: Tensor) -> Tensor:
        """The log-probability of each label, ``(n, V), None, (n,) -> (n,)``."""
        return -losses.cross_entropy(student, labels)

    def pairs(self, sums: Tensor, reference: Tensor | None, lengths: Tensor) -> Tensor:
        """The loss of each pair, from ``(2, P)`` of right and wrong sequences each."""
        raise NotImplementedError(f"{type(self).__name__} does not define pairs()")

    def check(self, step: Step) -> None:
        """Besides what every objective needs: as many right sequences as wrong ones."""
        super().check(step)
        check_sides(step, type(self).__name__)
        if step.rejected is None:
            raise ValueError(
                f"{type(self).__name__} needs step.rejected, one boolean a sequence; a"
                " TracesDataModule with kind='pairs' gives it"
            )

    def forward(self, step: Step) -> Loss:
        """The loss of every pair of the step."""
        self.check(step)
        sides, pairs = Sides.of(step), _partners(step)
        whole = (sides.lengths[pairs] > 0).all(0)
        pairs, lengths = pairs[:, whole], sides.lengths[pairs[:, whole]]
        sums = self._sums(step.student, step, sides.mask)[pairs]
        reference = None
        if self.needs_teacher and step.teacher is not None:
            with torch.no_grad():
                reference = self._sums(step.teacher, step, sides.mask)[pairs]
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

    def _sums(self, source: LogitsSource, step: Step, mask: Tensor) -> Tensor:
        values = token_values(self.rows, source, None, step.labels, mask, chunked=step.chunked)
        return values.new_zeros(len(mask)).index_add(0, mask.nonzero()[:, 0], values)


def _partners(step: Step) -> Tensor:
    """Indices ``(2, P)`` of right and wrong sequences, pair by pair."""
    rejected = step.rejected
    assert rejected is not None
    chosen, wrong = (~rejected).nonzero()[:, 0], rejected.nonzero()[:, 0]
    if len(chosen) != len(wrong):
        raise ValueError(
            f"the batch has {len(chosen)} chosen and {len(wrong)} rejected sequences, which make no"
            " pairs; use a TracesDataModule with kind='pairs', or REDI, which needs none"
        )
    return torch.stack([chosen, wrong])
