"""The base class of objectives on chosen and rejected sequences that need no pairs."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.checks import check_at_least, check_positive, check_range
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.preference_batch import PreferenceBatch, check_preferences
from kdlight.reduce import Loss, PerTokenLoss, PerTokenValues, token_sum


class UnpairedPreference(Objective):
    r"""The mean of one loss over chosen sequences, and of another over rejected ones.

    .. math:: \frac{c}{N_w} \sum_{y \in w} \frac{1}{|y|} \sum_t r^+_t
              + \frac{\alpha}{N_l} \sum_{y \in l} \frac{1}{|y|} \sum_t r^-_t

    This is a sum over tokens with a weight for each sequence, so chosen and rejected sequences need
    not be in pairs, in the same batch or on the same rank. The count of the loss is the number of
    sequences, :math:`N_w + N_l`. The ratio of the two numbers is a hyper-parameter
    (``rejected_per_chosen``), so the weight of a sequence does not depend on the batch it is in.

    A subclass defines `rejected_per_token`, and may define `chosen_per_token`. The field
    ``rejected`` of the inputs marks the rejected sequences. Without it all sequences are chosen,
    and the count is :math:`N_w`.

    Args:
        alpha: weight of the rejected sequences, in [0, 1]. Callbacks may change it.
        chosen_weight: weight c of the chosen sequences, not negative.
        rejected_per_chosen: rejected sequences in the data per chosen one, above 0.
        min_rejected_length: shorter rejected sequences are divided by this many tokens instead of
            their own number, which would give each of their few tokens a large weight; at least 1,
            which changes nothing.

    Raises:
        ValueError: a hyper-parameter is out of range.
    """

    needs = frozenset({"labels"})
    unit = "sequence"

    def __init__(
        self,
        *,
        alpha: float,
        chosen_weight: float,
        rejected_per_chosen: float,
        min_rejected_length: int,
    ) -> None:
        super().__init__()
        check_range("alpha", alpha, 0.0, 1.0)
        check_range("chosen_weight", chosen_weight, 0.0, inf, open_high=True)
        check_positive("rejected_per_chosen", rejected_per_chosen)
        check_at_least("min_rejected_length", min_rejected_length, 1)
        self.alpha, self.chosen_weight = float(alpha), float(chosen_weight)
        self.rejected_per_chosen = float(rejected_per_chosen)
        self.min_rejected_length = int(min_rejected_length)

    def chosen_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """Compute the loss of tokens in chosen sequences, ``(n, V), (n, V), (n,) -> (n,)``.

        Returned in a pair with ``{"log_prob": (n,)}``.
        """
        nll = losses.cross_entropy(student, labels)
        return nll, {"log_prob": -nll}

    def rejected_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """Compute the loss of tokens in rejected sequences, in the form of `chosen_per_token`."""
        raise NotImplementedError(f"{type(self).__name__} does not define rejected_per_token()")

    def check(self, inputs: LossInputs) -> None:
        """Check that everything needed is present, and that positions form sequences."""
        super().check(inputs)
        check_preferences(inputs, type(self).__name__)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum over chosen and over rejected sequences, in a pass each over their positions."""
        self.check(inputs)
        batch = PreferenceBatch.of(inputs)
        rejected_per_chosen = self.rejected_per_chosen if inputs.rejected is not None else 0.0
        # the count holds both kinds of sequences: these factors turn the mean over all of them
        # into a mean over one kind
        all_per_chosen = 1.0 + rejected_per_chosen
        all_per_rejected = all_per_chosen / self.rejected_per_chosen
        chosen = self._sum_of_means(inputs, batch, self.chosen_per_token, batch.chosen)
        rejected = self._sum_of_means(
            inputs, batch, self.rejected_per_token, batch.rejected, self.min_rejected_length
        )
        total = self.chosen_weight * all_per_chosen * chosen.total
        if self.alpha:  # 0 * inf would be NaN
            total = total + self.alpha * all_per_rejected * rejected.total

        def number(integer: Tensor) -> Tensor:
            # times a float it would get the default dtype of a run, maybe half precision
            return integer.to(total.dtype)

        return Loss(
            total=total,
            count=(batch.chosen | batch.rejected).sum(),
            parts={
                "chosen_sum": all_per_chosen * _log_prob(chosen),
                "rejected_sum": all_per_rejected * _log_prob(rejected),
                "chosen_length": all_per_chosen * number(batch.length_of(batch.chosen)),
                "rejected_length": all_per_rejected * number(batch.length_of(batch.rejected)),
                "short_rejected": all_per_rejected * number(batch.short_rejected(self.alpha)),
            },
        )

    def _sum_of_means(
        self,
        inputs: LossInputs,
        batch: PreferenceBatch,
        per_token_loss: PerTokenLoss,
        sequences: Tensor,
        min_length: int = 1,
    ) -> Loss:
        """Sum the mean loss of each of ``sequences``."""
        dtype = torch.promote_types(inputs.student.dtype, torch.float32)
        lengths = batch.lengths.clamp(min=min_length).to(dtype)
        return token_sum(
            per_token_loss,
            inputs.student,
            inputs.teacher if "teacher" in self.needs else None,
            inputs.labels,
            batch.positions(sequences),
            weights=lengths.reciprocal().unsqueeze(-1).expand(batch.mask.shape),
            parameters=tuple(p for p in self.parameters() if p.requires_grad),
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )


def _log_prob(loss: Loss) -> Tensor:
    return loss.parts.get("log_prob", torch.zeros_like(loss.total.detach()))
