"""Forward KL to a teacher of whom only the likeliest tokens are known."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.losses.kl import kl
from kdlight.losses.log_space import log_probs, widen

Tail: TypeAlias = Literal["bucket", "renormalise"]
TAILS = ("bucket", "renormalise")


def topk_forward_kl(
    student: Tensor, teacher_ids: Tensor, teacher_log_probs: Tensor, *, tail: Tail = "bucket"
) -> Tensor:
    r"""KL from a teacher's top k to the student per token, (..., V), (..., k), (..., k) -> (...).

    .. math:: \sum_{v \in K} p_v \log \frac{p_v}{q_v} + r \log \frac{r}{s}, \qquad
              r = 1 - \sum_{v \in K} p_v, \quad s = 1 - \sum_{v \in K} q_v

    For a teacher whose answers are stored: k numbers a token instead of V. The tail of the teacher
    is not nothing. As a ``"bucket"`` it is one outcome, so that the student puts as much mass there
    as the teacher does, however it divides it: 0 at a match, never above the KL over all tokens.
    ``"renormalise"``, as FIRST has it, compares among the kept tokens alone, which sum to 1 on both
    sides: 0 at a match too, and blind to what the student does elsewhere.

    Args:
        student: Logits of q.
        teacher_ids: Which tokens are kept. A row may keep fewer than k: what is left over, never
            the first of them, has a log-probability of -inf and any id.
        teacher_log_probs: Their log-probabilities among all V tokens.
        tail: What becomes of the others.

    Raises:
        ValueError: If the shapes do not fit, or tail is neither of the two.
        TypeError: If the logits are not floating point.

    Shum, Xu, Zhang, Chen, Diao, Dong, Zhang, Raza, FIRST: Teach A Reliable Large Language Model
    Through Efficient Trustworthy Distillation, 2024 (with ``"renormalise"``).

    >>> student = torch.zeros(1, 4)
    >>> topk_forward_kl(student, torch.tensor([[2]]), torch.tensor([[0.5]]).log())
    tensor([0.1438])
    """
    check_tail(tail)
    if teacher_ids.shape != teacher_log_probs.shape or student.shape[:-1] != teacher_ids.shape[:-1]:
        raise ValueError(
            "student, teacher_ids and teacher_log_probs must be (..., V), (..., k), (..., k), got"
            f" {tuple(student.shape)}, {tuple(teacher_ids.shape)}, {tuple(teacher_log_probs.shape)}"
        )
    log_p, log_q = widen(teacher_log_probs), log_probs(student)
    wide = torch.promote_types(log_p.dtype, log_q.dtype)
    log_p, log_q = log_p.to(wide), log_q.to(wide)
    kept = log_q.gather(-1, teacher_ids)
    if tail == "renormalise":
        return kl(log_p.log_softmax(-1), kept.log_softmax(-1))
    ids, _ = filled(teacher_ids, log_p)
    log_s = log_mass(without(log_q, ids))
    log_r = log_rest(log_p).masked_fill(log_s == -torch.inf, -torch.inf)
    outcomes = torch.cat([log_p, log_r.unsqueeze(-1)], -1).log_softmax(-1)
    return kl(outcomes, torch.cat([kept, log_s.unsqueeze(-1)], -1))


def log_rest(log_p: Tensor) -> Tensor:
    """Log of the mass that kept log-probabilities leave over, (..., k) -> (...).

    At least the rounding of a sum that should be 1, so that a divergence to it is finite.
    """
    mass = log_p.logsumexp(-1).exp()
    return (1 - mass).clamp(min=torch.finfo(log_p.dtype).eps).log()


def log_mass(log_q: Tensor) -> Tensor:
    """Logsumexp whose gradient is 0, and not NaN, where nothing is left, (..., V) -> (...)."""
    nothing = (log_q == -torch.inf).all(-1)
    total = log_q.masked_fill(nothing.unsqueeze(-1), 0.0).logsumexp(-1)
    return total.masked_fill(nothing, -torch.inf)


def without(log_q: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities with -inf at ``ids``, (..., V), (..., k) -> (..., V)."""
    return log_q.scatter(-1, ids, -torch.inf)


def filled(ids: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that keep fewer than k, filled up with their first token: safe to scatter."""
    empty = log_p == -torch.inf
    return torch.where(empty, ids[..., :1], ids), torch.where(empty, log_p[..., :1], log_p)


def check_tail(tail: str) -> None:
    """Refuse what is not one of `TAILS`.

    Raises:
        ValueError: Naming the value.
    """
    if tail not in TAILS:
        raise ValueError(f"tail must be one of {TAILS}, got {tail!r}")
