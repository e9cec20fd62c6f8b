"""ULD: distance of sorted probabilities, for student and teacher with different tokenizers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdlight.losses.labels import check_mask
from kdlight.losses.log_space import probs


def uld(
    student: Tensor,
    teacher: Tensor,
    *,
    student_mask: Tensor | None = None,
    teacher_mask: Tensor | None = None,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Tensor:
    r"""Universal Logit Distillation, (B, T, V), (B, T', V') -> ().

    .. math:: \frac1B \sum_b \frac1{n_b} \sum_{k \le n_b} \sum_v | q_{(v)}(k) - p_{(v)}(k) |

    Compares the probabilities of the k-th answer position of both sides, each sorted, the shorter
    vocabulary padded with 0. This is the Wasserstein distance between the values of two
    distributions, whatever tokens they belong to. Choose it where teacher and student have
    different tokenizers. Sequences without a pair of positions are left out of the mean.

    Args:
        student: Logits of q.
        teacher: Logits of p, of as many sequences; positions and vocabulary may differ.
        student_mask: True where the logits predict a token of the answer, (B, T); None means all.
        teacher_mask: The same for the teacher, (B, T'). None means ``student_mask`` if the
            positions have the same shape, else all.
        student_temperature: Divides the student's logits.
        teacher_temperature: Divides the teacher's logits.

    Returns:
        The mean over sequences; 0, with a graph, if no sequence has a pair.

    Raises:
        ValueError: If sequences or masks do not fit, or a temperature is not above 0 and finite.
        TypeError: If the logits are not floating point.

    Boizard et al., Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
    LLMs, 2024, eq. (7).

    >>> student, teacher = torch.zeros(1, 1, 2), torch.zeros(1, 1, 4)
    >>> uld(student, teacher)
    tensor(1.)
    """
    pairs = align(student.shape, teacher.shape, student_mask, teacher_mask, device=student.device)
    q = probs(student.reshape(-1, student.shape[-1])[pairs.student], student_temperature)
    p = probs(teacher.reshape(-1, teacher.shape[-1])[pairs.teacher], teacher_temperature)
    weights = mean_weights(pairs.lengths).to(q.dtype)
    return (sorted_distance(q, p) * weights).sum() / (pairs.lengths > 0).sum().clamp(min=1)


def mean_weights(lengths: Tensor) -> Tensor:
    """Weight of each pair in the mean of its own sequence, (B,) -> (n,)."""
    return (1.0 / lengths.double()).repeat_interleave(lengths)


def sorted_distance(q: Tensor, p: Tensor) -> Tensor:
    r"""Sum of absolute differences of sorted probabilities, (..., V), (..., V') -> (...).

    .. math:: \sum_v | q_{(v)} - p_{(v)} |

    >>> sorted_distance(torch.tensor([0.2, 0.8]), torch.tensor([0.7, 0.1, 0.2]))
    tensor(0.2000)
    """
    q, p = (x.sort(-1, descending=True).values for x in (q, p))
    width = max(q.shape[-1], p.shape[-1])
    q, p = (pad(x, (0, width - x.shape[-1])) for x in (q, p))
    return (q - p).abs().sum(-1)


class Pairs(NamedTuple):
    """Pairs of positions of student and teacher, sequence by sequence.

    Attributes:
        student: Indices of the student's flattened positions, (n,).
        teacher: Indices of the teacher's flattened positions, (n,).
        lengths: Number of pairs of each sequence, (B,), which may be 0.
    """

    student: Tensor
    teacher: Tensor
    lengths: Tensor


def align(
    student: torch.Size,
    teacher: torch.Size,
    student_mask: Tensor | None = None,
    teacher_mask: Tensor | None = None,
    *,
    device: torch.device | None = None,
) -> Pairs:
    """Pair the k-th valid positions of both sides, (B, T, V), (B, T', V'), ... -> pairs.

    The longer side of each sequence is truncated. Masks are those of aligned logits: a position is
    valid if its logits predict a token that counts. (Counting from the first token itself would
    pair the predictions of a token with those of the next one.)

    Args:
        student: Shape of the student's logits, (B, T, V); without B, they are one sequence.
        teacher: Shape of the teacher's logits, of as many sequences.
        student_mask: True at valid positions; None means all.
        teacher_mask: The same for the teacher. None means ``student_mask`` if the positions have
            the same shape, else all.
        device: Device of the indices if there is no mask.

    Raises:
        ValueError: If the numbers of sequences differ, or a mask does not fit.

    >>> student, teacher = torch.Size([1, 3, 5]), torch.Size([1, 4, 7])
    >>> align(student, teacher, teacher_mask=torch.tensor([[False, True, True, False]]))[:2]
    (tensor([0, 1]), tensor([1, 2]))
    """
    if teacher_mask is None and student[:-1] == teacher[:-1]:
        teacher_mask = student_mask
    masks = [
        _valid(side, shape, mask, device)
        for side, shape, mask in (
            ("student", student, student_mask),
            ("teacher", teacher, teacher_mask),
        )
    ]
    if len(masks[0]) != len(masks[1]):
        raise ValueError(
            f"student and teacher must have the same sequences, got {len(masks[0])} of the student"
            f" and {len(masks[1])} of the teacher"
        )
    lengths = torch.minimum(*(mask.sum(-1) for mask in masks))
    of_student, of_teacher = (
        (mask & (mask.cumsum(-1) <= lengths[:, None])).flatten().nonzero().squeeze(-1)
        for mask in masks
    )
    return Pairs(of_student, of_teacher, lengths)


def _valid(
    side: str, shape: torch.Size, mask: Tensor | None, device: torch.device | None
) -> Tensor:
    positions = shape[:-1]
    if mask is None:
        mask = torch.ones(positions, dtype=torch.bool, device=device)
    if mask.shape != positions or mask.dim() > 2:
        raise ValueError(
            f"{side} logits must be (B, T, V) with a {side}_mask (B, T), got {tuple(shape)} and"
            f" {tuple(mask.shape)}"
        )
    check_mask(f"{side}_mask", mask)
    return (mask != 0).reshape(-1, positions[-1] if positions else 1)
