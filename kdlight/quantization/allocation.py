"""The number of points of each weight of a network."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from kdlight.checks import check_integer


def allocate_points(gradient_norms: Sequence[float], points: Sequence[int]) -> list[int]:
    r"""Return the points of each weight, more where the gradient is larger, of the same total.

    .. math:: n_i' = \lfloor n_i / 2 \rfloor + \mathrm{round}\left(
        \frac{g_i}{\sum_j g_j} \sum_j (n_j - \lfloor n_j / 2 \rfloor) \right)

    Half of the points of a weight stay. What rounding leaves over is taken from the weight with
    most points, and what it lacks is given to the one with fewest.

    Args:
        gradient_norms: the norm of the gradient of each weight, such as the mean over five batches.
        points: the number of points of each weight before; at least 2.

    Raises:
        TypeError: If a number of points is no integer.
        ValueError: If there are none, their numbers differ, a norm is negative or not finite, or
            there are fewer than 2 points.

    Polino, Pascanu, Alistarh, "Model compression via distillation and quantization", 2018, section
    4; the rule for what rounding leaves over is that of the authors' code.

    Example:
        >>> allocate_points([0.5, 1.5, 3.0, 0.2], [16, 16, 16, 16])
        [11, 17, 26, 10]
    """
    norms, given = [float(each) for each in gradient_norms], list(points)
    if not given or len(norms) != len(given):
        raise ValueError(
            "gradient_norms and points must have a number for each weight, got"
            f" {len(norms)} and {len(given)}"
        )
    for count in given:
        check_integer("points", count, 2)
    wrong = [each for each in norms if not (isfinite(each) and each >= 0)]
    if wrong:
        raise ValueError(f"gradient_norms must be finite and not negative, got {wrong[0]}")
    total = sum(norms)
    shares = [each / total for each in norms] if total else [1 / len(norms)] * len(norms)
    kept = [count // 2 for count in given]
    rest = sum(given) - sum(kept)
    result = [base + round(share * rest) for base, share in zip(kept, shares, strict=True)]
    surplus = sum(result) - sum(given)
    if surplus < 0:
        result[result.index(min(result))] -= surplus
    while surplus > 0:  # once, unless there are many weights with few points
        largest = result.index(max(result))
        taken = min(surplus, result[largest] - 1)
        result[largest] -= taken
        surplus -= taken
    return result
