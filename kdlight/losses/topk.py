"""Forward KL to a teacher of which only the k most likely tokens are known."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.checks import check_choice
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

    Choose it for a teacher whose outputs are stored: k numbers per token instead of V. With
    ``"bucket"`` all other tokens form one outcome, so the student learns how much probability they
    have together, but not how it is distributed among them. The loss is 0 at a match, and never
    above the KL over all tokens. With ``"renormalise"``, as in FIRST, only the kept tokens are
    compared, renormalised to sum to 1 on both sides. The loss is also 0 at a match, but does not
    depend on the probability that the student gives to the other tokens.

    Args:
        student: Logits of q.
        teacher_ids: Ids of the kept tokens. A row may keep fewer than k: an unused entry, never the
            first, has a log-probability of -inf and any id.
        teacher_log_probs: Their log-probabilities, normalized over all V tokens.
        tail: How the other tokens count, ``"bucket"`` or ``"renormalise"``.

    Returns:
        One value per position, in float32 or wider.

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
    wider = torch.promote_types(log_p.dtype, log_q.dtype)
    log_p, log_q = log_p.to(wider), log_q.to(wider)
    kept = log_q.gather(-1, teacher_ids)
    if tail == "renormalise":
        kept = kept.masked_fill(log_p == -torch.inf, -torch.inf)  # an unused entry is no token
        return renormalised_kl(log_p, kept)
    ids, _ = filled(teacher_ids, log_p)
    log_s = log_mass(without(log_q, ids))
    log_r = log_rest(log_p).masked_fill(log_s == -torch.inf, -torch.inf)
    teacher_outcomes = torch.cat([log_p, log_r.unsqueeze(-1)], -1).log_softmax(-1)
    return kl(teacher_outcomes, torch.cat([kept, log_s.unsqueeze(-1)], -1))


def renormalised_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL of log-probabilities that are renormalized first, (..., k), (..., k) -> (...).

    It is +inf, with a gradient of 0, where the student gives no probability to any of the tokens.

    >>> renormalised_kl(torch.tensor([0.5, 0.0]).log(), torch.tensor([0.1, 0.3]).log())
    tensor(1.3863)
    """
    impossible = (log_q == -torch.inf).all(-1)
    log_q = log_q.masked_fill(impossible.unsqueeze(-1), 0.0)  # the gradient would be NaN
    values = kl(log_p.log_softmax(-1), log_q.log_softmax(-1))
    return values.masked_fill(impossible, torch.inf)


def log_rest(log_p: Tensor) -> Tensor:
    """Log of the probability of all tokens that are not kept, (..., k) -> (...).

    It is at least the rounding error of a sum that should be 1, so that a divergence to it is
    finite.
    """
    mass = log_p.logsumexp(-1).exp()
    return (1 - mass).clamp(min=torch.finfo(log_p.dtype).eps).log()


def log_mass(log_q: Tensor) -> Tensor:
    """Logsumexp with a gradient of 0 instead of NaN where all entries are -inf.

    Shapes (..., V) -> (...).
    """
    empty = (log_q == -torch.inf).all(-1)
    total = log_q.masked_fill(empty.unsqueeze(-1), 0.0).logsumexp(-1)
    return total.masked_fill(empty, -torch.inf)


def without(log_q: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities with -inf at ``ids``, (..., V), (..., k) -> (..., V)."""
    return log_q.scatter(-1, ids, -torch.inf)


def filled(ids: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Replace unused entries by the first token of their row, so that ids are safe to scatter.

    Shapes (..., k), (..., k) -> (..., k), (..., k).
    """
    unused = log_p == -torch.inf
    return torch.where(unused, ids[..., :1], ids), torch.where(unused, log_p[..., :1], log_p)


def check_tail(tail: str) -> None:
    """Raise an error for a tail that is not one of `TAILS`.

    Raises:
        ValueError: If the tail is not one of them.
    """
    check_choice("tail", tail, TAILS)
