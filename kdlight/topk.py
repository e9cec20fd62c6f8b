"""A teacher's likeliest tokens as a source of logits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlight.logits import Dense, Index
from kdlight.losses.log_space import log_probs, widen
from kdlight.losses.topk import Tail, check_tail, filled, log_mass, log_rest, without


@dataclass(frozen=True)
class TopK:
    r"""The k likeliest tokens of each position, and how much the others have together.

    What is not known is how the teacher divides its tail mass r among the others. With
    ``tail="bucket"`` they get it as the student divides its own s, beside which they are compared:

    .. math:: \hat p_v = r \, q_v / s

    Then p / q is one number over the whole tail, and an f-divergence (forward, reverse, symmetric
    and skew KL, Jensen-Shannon, total variation, TAID) and its gradient are exactly those over
    k + 1 outcomes, the last of which is "any other token". No objective needs to know of it. Those
    that look at single tokens of the tail (the label of `DecoupledKL`, the head of `AdaptiveKL`)
    see the student's own opinion of them.

    With ``tail="renormalise"`` the kept tokens sum to 1 and the others are impossible (-inf): fit
    for forward KL, which then also pulls the student into the k tokens, and infinite for
    divergences that divide by p, as reverse KL does.

    Args:
        ids: ``(..., k)``. A row may hold fewer than k: then the last log-probabilities are -inf.
        log_probs: log-probabilities ``(..., k)`` among all tokens, at temperature 1.
        vocabulary: V.
        tail: what becomes of the others.
        log_tail: log of the tail mass ``(...)``; None for what ``log_probs`` leave over.
        temperature: of the teacher. Above 1 it is less sure; its tail is tempered with the shape
            that the student's has.

    Raises:
        ValueError: shapes that differ, an unknown tail, or a temperature that is not above 0.

    Example:
        >>> source = TopK(torch.tensor([[2]]), torch.tensor([[0.5]]).log(), 4)
        >>> student = torch.tensor([[0.4, 0.1, 0.2, 0.3]]).log()
        >>> [f"{p:.4f}" for p in source.against(student)[0].exp()]
        ['0.2500', '0.0625', '0.5000', '0.1875']
    """

    ids: Tensor
    log_probs: Tensor
    vocabulary: int
    tail: Tail = "bucket"
    log_tail: Tensor | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_tail(self.tail)
        if self.ids.shape != self.log_probs.shape:
            raise ValueError(
                f"ids {tuple(self.ids.shape)} and log_probs {tuple(self.log_probs.shape)} must have"
                " one shape (..., k)"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    @classmethod
    def of(cls, logits: Tensor, k: int, *, tail: Tail = "bucket") -> TopK:
        """The top k of logits that exist, ``(..., V)``."""
        log_p = log_probs(logits)
        vocabulary = log_p.shape[-1]
        top = log_p.topk(min(k, vocabulary), -1)
        log_tail = log_mass(without(log_p, top.indices))
        return cls(top.indices, top.values, vocabulary, tail, log_tail)

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return torch.Size([*self.ids.shape[:-1], self.vocabulary])

    def select(self, index: Index) -> TopK:
        """Rows ``index`` of the flattened positions; all for None."""
        log_tail = None if self.log_tail is None else self.log_tail.unsqueeze(-1)
        return replace(
            self,
            ids=_rows(self.ids, index),
            log_probs=_rows(self.log_probs, index),
            log_tail=None if log_tail is None else _rows(log_tail, index).squeeze(-1),
        )

    def logits(self) -> Tensor:
        """Log-probabilities ``(..., V)`` where no student is there to ask: an even tail."""
        return self.against(torch.zeros(self.shape, device=self.ids.device))

    def against(self, student: Tensor) -> Tensor:
        """Log-probabilities ``(..., V)`` beside the student's logits ``(..., V)``."""
        log_q, log_p = log_probs(student.detach()), widen(self.log_probs)
        wide = torch.promote_types(log_q.dtype, log_p.dtype)
        log_q, log_p = log_q.to(wide), log_p.to(wide)
        ids, _ = filled(self.ids, log_p)
        rest = without(log_q, ids)
        log_s = log_mass(rest).unsqueeze(-1)
        if self.tail == "renormalise":
            log_r = torch.full_like(log_s, -torch.inf)
        else:
            log_r = self._log_tail(log_p).unsqueeze(-1)
        nobody = log_s == -torch.inf  # k = V, or the rest is outside the vocabulary
        log_r = log_r.masked_fill(nobody, -torch.inf)
        rest = rest - log_s.masked_fill(nobody, 0.0)
        if self.temperature != 1:
            log_p = log_p / self.temperature
            log_r = log_mass((rest + log_r) / self.temperature).unsqueeze(-1)
        outcomes = torch.cat([log_p, log_r], -1).log_softmax(-1)
        _, log_p = filled(self.ids, outcomes[..., :-1])
        return (rest + outcomes[..., -1:]).scatter(-1, ids, log_p)

    def top(self, k: int, *, tail: Tail | None = None) -> TopK:
        """The k likeliest of those that are kept; the mass of the others joins the tail."""
        if k >= self.ids.shape[-1]:
            return replace(self, tail=tail or self.tail)
        order = self.log_probs.argsort(-1, descending=True)
        ids, values = self.ids.gather(-1, order), self.log_probs.gather(-1, order)
        dropped = log_mass(values[..., k:])
        return replace(
            self,
            ids=ids[..., :k],
            log_probs=values[..., :k],
            tail=tail or self.tail,
            log_tail=torch.logaddexp(self._log_tail(self.log_probs), dropped),
        )

    def _log_tail(self, log_p: Tensor) -> Tensor:
        return log_rest(log_p) if self.log_tail is None else self.log_tail.to(log_p.dtype)


def _rows(tensor: Tensor, index: Index) -> Tensor:
    return Dense(tensor).select(index).tensor
