"""ULD: distance of sorted probabilities, for students with a tokenizer of their own."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from kdlight.losses.alignment import align
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

    Probabilities of the k-th answer position on either side, each sorted, the shorter vocabulary
    filled up with 0: the Wasserstein distance between the values of two distributions, which token
    has which is not looked at. Choose it where teacher and student have different tokenizers.
    Sequences without a pair are left out.

    Args:
        student: Logits of q.
        teacher: Logits of p, of as many sequences; positions and vocabulary may differ.
        student_mask: True where the logits predict a token of the answer, (B, T); None keeps all.
        teacher_mask: The same for the teacher, (B, T'); None for ``student_mask`` where the
            positions are the same.
        student_temperature: Divides the student's logits.
        teacher_temperature: Divides the teacher's.

    Raises:
        ValueError: If sequences or masks do not fit, or a temperature is not positive.
        TypeError: If the logits are not floating point.

    Boizard et al., Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
    LLMs, 2024, eq. (7).

    >>> import torch
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
    """What each pair weighs in the mean of its own sequence, (B,) -> (n,)."""
    return (1.0 / lengths.double()).repeat_interleave(lengths)


def sorted_distance(q: Tensor, p: Tensor) -> Tensor:
    r"""Sum of the differences of sorted probabilities, (..., V), (..., V') -> (...).

    .. math:: \sum_v | q_{(v)} - p_{(v)} |

    >>> import torch
    >>> sorted_distance(torch.tensor([0.2, 0.8]), torch.tensor([0.7, 0.1, 0.2]))
    tensor(0.2000)
    """
    q, p = (x.sort(-1, descending=True).values for x in (q, p))
    width = max(q.shape[-1], p.shape[-1])
    q, p = (pad(x, (0, width - x.shape[-1])) for x in (q, p))
    return (q - p).abs().sum(-1)
