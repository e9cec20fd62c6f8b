"""Top-k reverse KL: the tokens that the student finds most likely, and all others as one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_integer
from kdlight.losses import value_and_grad_topk
from kdlight.losses.log_space import log_probs, tempered_pair
from kdlight.losses.topk import log_mass, without
from kdlight.losses.topk_reverse_kl import most_likely
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import Divergence
from kdlight.reduce import Loss, token_sum
from kdlight.sources.tempered import depends_on_student


class TopKReverseKL(Divergence):
    """Reverse KL over the top k of the student and a tail, `kdlight.losses.topk_reverse_kl`.

    Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes", 2024 (reverse KL on text of the student). Choose it for a teacher that scores tokens
    which the client names: k log-probabilities per token are transferred, those that count most in
    the reverse KL. All other tokens are one outcome on both sides, so that no probability is lost
    from sight: without it, the student can lower the loss by moving probability to other tokens.

    With a live teacher the loss is computed from its logits. A source that knows certain tokens
    only (`kdlight.TopK`, of a served or a cached teacher) is compared at exactly these tokens and
    the tail, whatever ``k`` is: for the loss described here, it must hold the student's most likely
    ones.

    Args:
        k: number of the student's tokens to compare, at least 1.
        temperature: divides both logits, above 0. Callbacks may change it.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> logits = torch.randn(4, 70)
        >>> abs(round(TopKReverseKL(k=50)(LossInputs(logits, logits)).mean().item(), 6))
        0.0
    """

    is_per_token = False  # the loss depends on the type of the teacher's source, see `forward`

    def __init__(
        self, *, k: int = 50, temperature: float = 1.0, temperature_squared: bool = True
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        check_integer("k", k, 1)
        self.k = int(k)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        check_integer("k", self.k, 1)  # a callback may have changed it
        student, teacher = tempered_pair(student, teacher, self.temperature)
        ids, log_p = most_likely(student, self.k), log_probs(teacher)
        log_tail = log_mass(without(log_p, ids))  # no digits are lost where it is small
        return losses.topk_reverse_kl(student, ids, log_p.gather(-1, ids), log_tail)

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the divergence and its gradient, or return None where no other token is left."""
        check_integer("k", self.k, 1)  # a callback may have changed it
        if self.k >= student.shape[-1]:
            return None
        ids = most_likely(student, self.k)
        return value_and_grad_topk.topk_reverse_kl(student, teacher, ids)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum `per_token_loss`; of a source that knows certain tokens, compare these."""
        if inputs.teacher is None or not depends_on_student(inputs.teacher):
            return super().forward(inputs)
        self.check(inputs)
        return token_sum(
            self._over_known_tokens,
            inputs.student,
            inputs.teacher,
            mask=inputs.mask,
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )

    def _over_known_tokens(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        # in its tail such a source has the student's own distribution, so that the reverse KL over
        # all tokens, and its gradient, is that over the known tokens and the tail
        values = losses.reverse_kl(student, teacher, temperature=self.temperature)
        return values * self.temperature**2 if self.temperature_squared else values
