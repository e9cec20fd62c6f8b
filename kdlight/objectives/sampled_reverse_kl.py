"""Reverse KL, estimated from the tokens that the student has sampled."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_choice
from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import log_probs
from kdlight.losses.sampled_reverse_kl import ESTIMATORS, Estimator
from kdlight.objectives.token_objective import Divergence
from kdlight.reduce import PerTokenValues


class SampledReverseKL(Divergence):
    """Reverse KL from one sampled token per position, `kdlight.losses.sampled_reverse_kl`.

    Schulman, "Approximating KL Divergence", 2020 (a note on estimators of a KL). Choose it for a
    teacher that gives the log-probability of the sampled token alone; where its logits are known,
    `ReverseKL` has the same mean and no noise from sampling.

    The label of a position is the sampled token. It must have been drawn from the student as it
    is, at ``temperature``: by `kdlight.callbacks.OnPolicy` with ``fraction=1`` and a ``sampling``
    of the same temperature, which refuses other settings, and draws whatever the student's
    generation config sets. Labels of a data set, of the teacher or of another student give a number
    that is no reverse KL; a fit is refused if nothing replaces them. A student with dropout is
    another one while it is trained; set its dropout to 0.

    In evaluation mode, as in a validation, labels are those of the data. The loss is then the exact
    reverse KL at the same positions, of which the estimators are estimates, and so is
    ``log_ratio``; that of a training step with ``"k2"`` or ``"k3"`` is another number.

    The default ``"k2"`` and ``"score_function"`` have the gradient of the reverse KL, averaged over
    draws; ``"k1"`` and ``"k3"`` do not, and are for comparison.

    A teacher of which only some tokens are known (`kdlight.TopK`, cached or served) gives a token
    of its tail the student's own share of the tail. The mean over draws is then the reverse KL over
    the known tokens and one outcome for all others. With ``tail="renormalise"`` a sampled token of
    the tail makes the loss infinite.

    Logged in addition as ``log_ratio``: log q - log p of the sampled tokens, whose mean is the
    reverse KL for each estimator.

    Args:
        estimator: ``"k2"``, ``"score_function"``, ``"k1"`` or ``"k3"``.
        temperature: divides both logits, above 0. Callbacks may change it.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> drawn = torch.distributions.Categorical(logits=logits).sample()
        >>> SampledReverseKL()(LossInputs(logits, logits, drawn)).mean().item()
        0.0
    """

    needs = frozenset({"teacher", "labels"})

    def __init__(
        self,
        *,
        estimator: Estimator = "k2",
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        check_choice("estimator", estimator, ESTIMATORS)
        self.estimator: Estimator = estimator

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Estimate the divergence of each row, ``(n, V), (n, V), (n,) -> (n,)``."""
        return self._values(student, teacher, labels)[0]

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """Estimate the divergence of each row, times T^2, and log q - log p of its label."""
        values, log_ratio = self._values(student, teacher, labels)
        values = values * self.temperature**2 if self.temperature_squared else values
        return values, {"log_ratio": log_ratio.detach()}

    def _values(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the estimate of each row, and the one whose mean is the reverse KL."""
        if self.training:
            pair = self._sampled(student, teacher, labels)
            return _estimate(*pair, labels, self.estimator), _estimate(*pair, labels, "k1")
        exact = losses.reverse_kl(student, teacher, temperature=self.temperature)
        exact = exact.masked_fill(labels == IGNORE_INDEX, 0.0)
        return exact, exact

    def _sampled(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        check_labels(student, labels)
        ids = labels.long().masked_fill(labels == IGNORE_INDEX, 0).unsqueeze(-1)
        pair = (log_probs(each, self.temperature) for each in (student, teacher))
        ours, theirs = (each.gather(-1, ids).squeeze(-1) for each in pair)
        return ours, theirs


def _estimate(ours: Tensor, theirs: Tensor, labels: Tensor, estimator: Estimator) -> Tensor:
    values = losses.sampled_reverse_kl(ours, theirs, estimator=estimator)
    return values.masked_fill(labels == IGNORE_INDEX, 0.0)
