"""How often each domain is drawn, by how far the student is behind the teacher on it."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log

from kdlight.checks import check_positive, check_type


def domain_weights(
    previous: Sequence[float] | None,
    student_perplexity: Sequence[float],
    teacher_perplexity: Sequence[float],
    *,
    alpha: float = 0.5,
) -> list[float]:
    r"""Compute the weights of N domains from the perplexities of student and teacher on each.

    .. math::
        r_0[i] &= \frac{\exp(l_S[i] / l_T[i])}{\sum_j \exp(l_S[j] / l_T[j])} \\
        r_{t+1}[i] &= \alpha\, \frac{r_t[i] \exp(l_S[i] / l_T[i])}
                      {\sum_j r_t[j] \exp(l_S[j] / l_T[j])} + \frac{1 - \alpha}{N}

    The first line is that of ``previous=None``. A domain on which the student is further behind
    gets more weight, and after an update each has at least ``(1 - alpha) / N``. Where all ratios
    are equal, the weights come closer to uniform by the factor ``alpha``. All is computed from
    logarithms: a student before training may have a perplexity a thousand times the teacher's.

    Args:
        previous: Weights of the last update, not negative, of sum 1; None for the first.
        student_perplexity: Perplexity of the student on each domain, above 0.
        teacher_perplexity: Perplexity of the teacher on each domain, above 0.
        alpha: Share of the new weights that follows the perplexities, in (0, 1].

    Returns:
        The weights, of sum 1.

    Raises:
        ValueError: If alpha is outside (0, 1], there are fewer than two domains, the lists have
            different lengths, or a number is outside its range.

    Liu et al., "DDK: Distilling Domain Knowledge for Efficient Large Language Models", 2024,
    equations 1 and 2.

    Example:
        >>> first = domain_weights(None, [12, 8, 20], [10, 7.5, 11])
        >>> [f"{weight:.4f}" for weight in first]
        ['0.2680', '0.2346', '0.4974']
        >>> [f"{weight:.4f}" for weight in domain_weights(first, [11, 7.8, 15], [10, 7.5, 11])]
        ['0.2846', '0.2639', '0.4515']
    """
    check_alpha(alpha)
    student, teacher = [*map(float, student_perplexity)], [*map(float, teacher_perplexity)]
    last = None if previous is None else [*map(float, previous)]
    count = len(student)
    lengths = [count, len(teacher), count if last is None else len(last)]
    if count < 2 or len(set(lengths)) > 1:
        raise ValueError(
            "student_perplexity, teacher_perplexity and previous must have a number for each of"
            f" two or more domains, got {lengths[0]}, {lengths[1]} and"
            f" {'None' if last is None else lengths[2]}"
        )
    for name, values in (("student_perplexity", student), ("teacher_perplexity", teacher)):
        for value in values:
            check_positive(name, value)
    scores = [s / t for s, t in zip(student, teacher, strict=True)]
    if last is None:
        return _softmax(scores)
    _check_weights(last)
    scores = [
        score + (log(weight) if weight else -inf)
        for score, weight in zip(scores, last, strict=True)
    ]
    return [alpha * share + (1 - alpha) / count for share in _softmax(scores)]


def check_alpha(alpha: float) -> None:
    """Raise an error for a share outside (0, 1].

    Raises:
        TypeError: If it is no number.
        ValueError: If it is outside of the range.

    Example:
        >>> check_alpha(0.0)
        Traceback (most recent call last):
        ValueError: alpha must be in (0, 1], got 0.0; 1 is the weights without smoothing
    """
    check_type("alpha", alpha, (int, float), "a number")
    if not 0 < alpha <= 1:
        raise ValueError(
            f"alpha must be in (0, 1], got {alpha}; 1 is the weights without smoothing"
        )


def _check_weights(weights: list[float]) -> None:
    if not all(0 <= weight <= 1 for weight in weights) or abs(sum(weights) - 1) > 1e-4:
        raise ValueError(f"previous must be weights in [0, 1] of sum 1, got {weights}")


def _softmax(scores: list[float]) -> list[float]:
    largest = max(scores)
    shares = [exp(score - largest) for score in scores]
    total = sum(shares)
    return [share / total for share in shares]
