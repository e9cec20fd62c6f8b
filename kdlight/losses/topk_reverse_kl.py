"""Reverse KL over the k most likely tokens of a student and one outcome for all others."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.kl import kl
from kdlight.losses.log_space import log_probs, widen
from kdlight.losses.sampled_reverse_kl import checked_log_probs
from kdlight.losses.topk import log_mass, log_rest, without


def topk_reverse_kl(
    student: Tensor, ids: Tensor, teacher_log_probs: Tensor, teacher_log_tail: Tensor | None = None
) -> Tensor:
    r"""KL from student to teacher over k tokens and a tail, (..., V), (..., k), (..., k) -> (...).

    .. math:: \sum_{v \in K} q_v \log \frac{q_v}{p_v} + s \log \frac{s}{r}, \qquad
              s = 1 - \sum_{v \in K} q_v, \quad r = 1 - \sum_{v \in K} p_v

    Choose it for a teacher of which only k log-probabilities per token are known, those of the
    tokens that the *student* finds most likely: these have the largest weights in the reverse KL.
    The value is between 0 and that of `reverse_kl`, 0 at a match, and equal to it where K holds all
    tokens but one. The last term is what keeps the student in K: a sum over K alone, as it is used
    for on-policy distillation, is lowered by moving probability out of K, where nothing is
    compared, and has its minimum at q = p / e.

    Args:
        student: Logits of q.
        ids: Ids of the tokens in K, distinct at each position; see `most_likely`.
        teacher_log_probs: Log-probabilities of p at ``ids``, normalized over all V tokens. At -inf,
            the teacher forbids the token, and the value is +inf; see `kdlight.losses` for the
            gradient.
        teacher_log_tail: Log of the teacher's probability r of all other tokens, (...). None for
            what ``teacher_log_probs`` leave, which is not known below the rounding error of 1.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes do not fit, or a log-probability is above 0.
        TypeError: If the logits are not floating point.

    Agarwal et al., On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes, 2024 (reverse KL on text of the student).

    >>> student = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    >>> topk_reverse_kl(student, torch.tensor([[2]]), torch.tensor([[0.5]]).log())
    tensor([0.1308])
    """
    tail = teacher_log_tail
    if ids.shape != teacher_log_probs.shape or student.shape[:-1] != ids.shape[:-1]:
        raise ValueError(
            "student, ids and teacher_log_probs must be (..., V), (..., k), (..., k), got"
            f" {tuple(student.shape)}, {tuple(ids.shape)}, {tuple(teacher_log_probs.shape)}"
        )
    if tail is not None and tail.shape != ids.shape[:-1]:
        raise ValueError(
            "teacher_log_tail must have one value per position,"
            f" {tuple(ids.shape[:-1])}, got {tuple(tail.shape)}"
        )
    log_q = log_probs(student)
    log_p = checked_log_probs("teacher_log_probs", teacher_log_probs)
    wider = torch.promote_types(log_q.dtype, log_p.dtype)
    log_q, log_p = log_q.to(wider), log_p.to(wider)
    log_s = log_mass(without(log_q, ids))
    log_r = log_rest(log_p) if tail is None else widen(tail).to(wider)
    # where no token is left, the student has no tail, and what the teacher has is rounding
    log_r = log_r.masked_fill(log_s == -torch.inf, -torch.inf)
    outcomes = torch.cat([log_p, log_r.unsqueeze(-1)], -1).log_softmax(-1)
    return kl(torch.cat([log_q.gather(-1, ids), log_s.unsqueeze(-1)], -1), outcomes)


def most_likely(student: Tensor, k: int) -> Tensor:
    """Return the ids of the k most likely tokens, all V if there are fewer, (..., V) -> (..., k).

    >>> most_likely(torch.tensor([[0.0, 3.0, 1.0]]), 2)
    tensor([[1, 2]])
    """
    return student.detach().topk(min(k, student.shape[-1]), -1).indices
