"""The most likely tokens of a teacher, as a logits source."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlight.losses.log_space import log_probs, widen
from kdlight.losses.topk import Tail, check_tail, filled, log_mass, log_rest, without
from kdlight.sources.base import Index, LogitsSource, select_rows


@dataclass(eq=False)
class TopK(LogitsSource):
    r"""The k most likely tokens of each position, and the total mass of all others, the tail.

    How the teacher distributes its tail mass r is unknown. With ``tail="bucket"`` it is distributed
    like the student's own tail, which has the mass s:

    .. math:: \hat p_v = r \, q_v / s

    Then p / q is constant over the tail. An f-divergence (forward, reverse, symmetric and skew KL,
    Jensen-Shannon, total variation, TAID) and its gradient are exactly those over k + 1 outcomes,
    the last of which is "any other token", and no objective needs a special case. Objectives that
    read single tokens of the tail (the label of `DecoupledKL`, the head of `AdaptiveKL`) get the
    student's own distribution there.

    With ``tail="renormalise"`` the kept tokens sum to 1 and all others are impossible (-inf). This
    suits forward KL, which then also moves the student's mass into the k tokens. Divergences that
    divide by p, such as reverse KL, become infinite.

    Args:
        ids: ``(..., k)``. A row may hold fewer than k: then the last log-probabilities are -inf.
        log_probs: log-probabilities ``(..., k)`` among all tokens, at temperature 1.
        vocabulary: V.
        tail: how the tail is treated, ``"bucket"`` or ``"renormalise"``.
        log_tail: log of the tail mass ``(...)``; None for the mass that ``log_probs`` leave.
        temperature: of the teacher; above 1 flattens it. The tail is tempered with the shape of the
            student's tail.
        student_temperature: of the student that the logits are compared with, which has this shape
            of the tail; `given_student` still takes the student's logits without it.

    Raises:
        ValueError: shapes that differ, an unknown tail, or a temperature that is not above 0.

    Example:
        >>> source = TopK(torch.tensor([[2]]), torch.tensor([[0.5]]).log(), 4)
        >>> student = torch.tensor([[0.4, 0.1, 0.2, 0.3]]).log()
        >>> [f"{p:.4f}" for p in source.given_student(student)[0].exp()]
        ['0.2500', '0.0625', '0.5000', '0.1875']
    """

    ids: Tensor
    log_probs: Tensor
    vocabulary: int
    tail: Tail = "bucket"
    log_tail: Tensor | None = None
    temperature: float = 1.0
    student_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_tail(self.tail)
        if self.ids.shape != self.log_probs.shape:
            raise ValueError(
                f"ids {tuple(self.ids.shape)} and log_probs {tuple(self.log_probs.shape)} must have"
                " one shape (..., k)"
            )
        for name in ("temperature", "student_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @classmethod
    def of(cls, logits: Tensor, k: int, *, tail: Tail = "bucket") -> TopK:
        """Keep the top k of logits ``(..., V)``."""
        log_p = log_probs(logits)
        vocabulary = log_p.shape[-1]
        top = log_p.topk(min(k, vocabulary), -1)
        log_tail = log_mass(without(log_p, top.indices))
        return cls(top.indices, top.values, vocabulary, tail, log_tail)

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return torch.Size([*self.ids.shape[:-1], self.vocabulary])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the log-probabilities."""
        return self.log_probs.dtype

    @property
    def device(self) -> torch.device:
        """Device of the log-probabilities."""
        return self.log_probs.device

    def select(self, index: Index) -> TopK:
        """Return rows ``index`` of the flattened positions."""
        log_tail = None if self.log_tail is None else self.log_tail.unsqueeze(-1)
        return replace(
            self,
            ids=select_rows(self.ids, index),
            log_probs=select_rows(self.log_probs, index),
            log_tail=None if log_tail is None else select_rows(log_tail, index).squeeze(-1),
        )

    def logits(self) -> Tensor:
        """Compute log-probabilities ``(..., V)`` with a uniform tail, as there is no student."""
        return self.given_student(torch.zeros(self.shape, device=self.ids.device))

    def given_student(self, student: Tensor) -> Tensor:
        """Compute log-probabilities ``(..., V)``, given the student's logits ``(..., V)``."""
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
        no_tail = log_s == -torch.inf  # k = V, or the rest is outside the vocabulary
        log_r = log_r.masked_fill(no_tail, -torch.inf)
        rest = rest - log_s.masked_fill(no_tail, 0.0)
        if self.temperature != 1:
            log_p = log_p / self.temperature
            log_r = log_mass((rest + log_r) / self.temperature).unsqueeze(-1)
        if self.student_temperature != 1:
            rest = rest / self.student_temperature
            rest = rest - log_mass(rest).unsqueeze(-1).masked_fill(no_tail, 0.0)
        outcomes = torch.cat([log_p, log_r], -1).log_softmax(-1)
        _, log_p = filled(self.ids, outcomes[..., :-1])
        return (rest + outcomes[..., -1:]).scatter(-1, ids, log_p)

    def top(self, k: int, *, tail: Tail | None = None) -> TopK:
        """Keep the k most likely of the kept tokens; the others join the tail."""
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
