"""Squared error of outputs, for regression and for logits as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.log_space import FORBIDDEN, same_type


def mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Mean squared difference of the outputs of each position, (..., V), (..., V) -> (...).

    .. math:: \frac1V \sum_v (z_{s, v} - z_{t, v})^2

    Choose it for networks whose outputs are not logits of a softmax, such as those of a regression,
    also with a single one. Of classifiers it compares the logits themselves, and so, unlike
    divergences, also what is common to all logits of a row.

    Args:
        student: Outputs of the student.
        teacher: Outputs of the teacher, of the same shape. Entries at -inf on both sides are left
            out of the mean.

    Returns:
        One value per position, in float32 or wider; +inf where one side alone has -inf.

    Raises:
        ValueError: If the shapes differ.
        TypeError: If the outputs are not floating point.

    Ba, Caruana, Do Deep Nets Really Need to be Deep?, 2014, section 2.2 (without a factor 1/2).

    >>> mean_squared_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor([2.])
    """
    student, teacher = same_type(student, teacher)
    low = student <= -FORBIDDEN, teacher <= -FORBIDDEN
    outside, one_sided = low[0] & low[1], (low[0] ^ low[1]).any(-1)
    # replaced before the difference, whose gradient would be NaN
    student, teacher = (x.masked_fill(low[0] | low[1], 0.0) for x in (student, teacher))
    count = (~outside).sum(-1).clamp(min=1)
    values = (student - teacher).square().sum(-1) / count.to(student.dtype)
    return values.masked_fill(one_sided, torch.inf)
