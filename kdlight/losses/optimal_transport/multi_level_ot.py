"""MultiLevelOT: transport per token and per sequence, between two tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.checks import check_at_least, check_choice, check_positive, check_range
from kdlight.losses.device_numbers import numbers_like
from kdlight.losses.log_space import log_probs, probs, widen
from kdlight.losses.optimal_transport.distances import pair_distances
from kdlight.losses.optimal_transport.plan import check_transport
from kdlight.losses.optimal_transport.points import sequences
from kdlight.losses.optimal_transport.transport import transport_costs


class Ranked(NamedTuple):
    """The k columns of a sequence with the highest mass, in descending order.

    Attributes:
        log_probs: Log-probabilities, (n, k).
        points: Probabilities at the temperature of the distance between sequences, (n, k).
    """

    log_probs: Tensor
    points: Tensor


def multi_level_ot(
    student: Tensor,
    teacher: Tensor,
    *,
    student_mask: Tensor | None = None,
    teacher_mask: Tensor | None = None,
    k: int = 50,
    beta: float = 0.1,
    gamma: float = 0.1,
    temperature: float = 1.0,
    sinkhorn_temperature: float = 2.0,
    epsilon: float = 0.1,
    iterations: int = 20,
    reduction: str = "mean",
) -> Tensor:
    r"""Multi-level optimal transport between two vocabularies, (B, T, V), (B, T', V') -> ().

    .. math:: \sum_{t, i \le k} | p_i(t) - q_i(t) | - \beta \sum_{t, i \le k} p_i(t) \log q_i(t)
              + \gamma \, n \langle P, C \rangle, \qquad
              C_{tu} = \sum_{i \le k} | p_i(t) - q_i(u) |

    Columns are ranked once per sequence and side, by their total mass over its positions, so that a
    column has the same meaning at every position. (`kdlight.losses.uld` sorts each position by
    itself.) Choose it where teacher and student have different tokenizers. The second term is a
    cross-entropy, so the sum is above 0 at a match. The paper adds the loss to the cross-entropy
    with the labels, with a weight of 0.15.

    Args:
        student: Logits of q.
        teacher: Logits of p, of as many sequences; positions and vocabulary may differ.
        student_mask: True where the logits predict a token of the answer, (B, T); None means all.
        teacher_mask: The same for the teacher, (B, T'). None means ``student_mask`` if the
            positions have the same shape, else all.
        k: Number of columns that are kept, at most those of the smaller vocabulary.
        beta: Weight of the cross-entropy of ranked columns.
        gamma: Weight of the distance between the two sequences as sets of points.
        temperature: Divides both logits in the first two terms.
        sinkhorn_temperature: Divides both logits in the third term.
        epsilon: Of the third term, see `kdlight.losses.sinkhorn`.
        iterations: Of the third term, see `kdlight.losses.sinkhorn`.
        reduction: ``"mean"`` over the pairs of positions, or their ``"sum"``, as in the paper.

    Returns:
        The loss; 0, with a graph, if there are no pairs.

    Raises:
        ValueError: If sequences or masks do not fit, or a hyper-parameter is out of range.
        TypeError: If the logits are not floating point.

    Cui et al., Multi-Level Optimal Transport for Universal Cross-Tokenizer Knowledge Distillation
    on Language Models, 2025.

    >>> logits = torch.tensor([[[0.0, 9.0, 0.0]]])
    >>> multi_level_ot(logits, logits.roll(1, -1), beta=0.0)
    tensor(0.)
    """
    check_multi_level_ot(
        k=k,
        beta=beta,
        gamma=gamma,
        temperature=temperature,
        sinkhorn_temperature=sinkhorn_temperature,
        epsilon=epsilon,
        iterations=iterations,
    )
    check_choice("reduction", reduction, ("mean", "sum"))
    if teacher_mask is None and student.shape[:-1] == teacher.shape[:-1]:
        teacher_mask = student_mask
    k = min(k, student.shape[-1], teacher.shape[-1])
    ranked = []
    for side, logits, mask in (
        ("student", student, student_mask),
        ("teacher", teacher, teacher_mask),
    ):
        flat = logits.reshape(-1, logits.shape[-1])
        ranked.append(
            [
                rank_columns(flat[each.index], k, temperature, sinkhorn_temperature)
                for each in sequences(logits.shape, mask, side=side)
            ]
        )
    if not ranked[0] and not ranked[1]:
        return widen(student).sum()  # of no sequences: 0 with a graph
    values, lengths = ranked_values(
        *ranked, beta=beta, gamma=gamma, epsilon=epsilon, iterations=iterations
    )
    return values.sum() / (max(1, sum(lengths)) if reduction == "mean" else 1)


def rank_columns(logits: Tensor, k: int, temperature: float, sinkhorn_temperature: float) -> Ranked:
    """Keep the k columns with the highest mass over all rows, (n, V) -> (n, k), (n, k)."""
    log_q = log_probs(logits, temperature)
    order = log_q.detach().exp().sum(0).topk(k).indices
    return Ranked(log_q[:, order], probs(logits, sinkhorn_temperature)[:, order])


def ranked_values(
    student: Sequence[Ranked],
    teacher: Sequence[Ranked],
    *,
    beta: float,
    gamma: float,
    epsilon: float,
    iterations: int,
) -> tuple[Tensor, list[int]]:
    """Sum over positions of each sequence, and its number of pairs of positions, which may be 0.

    Args:
        student: Ranked columns of each of the student's sequences.
        teacher: Ranked columns of each of the teacher's sequences.
        beta: See `multi_level_ot`, as all that follow.
        gamma: See `multi_level_ot`.
        epsilon: See `multi_level_ot`.
        iterations: See `multi_level_ot`.

    Raises:
        ValueError: If the numbers of sequences differ.
    """
    if len(student) != len(teacher):
        raise ValueError(
            f"student and teacher must have the same sequences, got {len(student)} of the student"
            f" and {len(teacher)} of the teacher"
        )
    lengths = [min(len(q.points), len(p.points)) for q, p in zip(student, teacher, strict=True)]
    pairs = [(q, p, n) for q, p, n in zip(student, teacher, lengths, strict=True) if n]
    if not pairs:
        return torch.stack([q.points.sum() for q in student]), lengths  # 0 with a graph
    values = torch.stack(
        [_token_terms(q.log_probs[:n], p.log_probs[:n], beta) for q, p, n in pairs]
    )
    # the rows of the paper's cost matrix are the teacher's
    costs = [pair_distances(q.points, p.points.to(q.points)).T for q, p, _ in pairs]
    distances = transport_costs(costs, epsilon=epsilon, iterations=iterations)
    sizes = numbers_like([n for *_, n in pairs], distances)
    return values + gamma * sizes * distances, lengths


def _token_terms(log_q: Tensor, log_p: Tensor, beta: float) -> Tensor:
    p = log_p.exp()
    absolute = (p - log_q.exp()).abs().sum()
    return absolute - beta * (p * log_q.masked_fill(p == 0, 0.0)).sum()


def check_multi_level_ot(
    *,
    k: int,
    beta: float,
    gamma: float,
    temperature: float,
    sinkhorn_temperature: float,
    epsilon: float,
    iterations: int,
) -> None:
    """Raise an error for hyper-parameters of `multi_level_ot` that are out of range.

    Raises:
        ValueError: If one is; the message names it, what is allowed and the value.
    """
    check_at_least("k", k, 1)
    check_range("beta", beta, 0.0, inf, open_high=True)
    check_range("gamma", gamma, 0.0, inf, open_high=True)
    check_positive("temperature", temperature)
    check_positive("sinkhorn_temperature", sinkhorn_temperature)
    check_transport(epsilon=epsilon, iterations=iterations)
