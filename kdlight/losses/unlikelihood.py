"""Unlikelihood: lowers the probability of labels, with a gradient that vanishes with it."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import FORBIDDEN, shifted, widen


def unlikelihood(student: Tensor, labels: Tensor) -> Tensor:
    r"""Negative log-probability of any other token than the label, (..., V), (...) -> (...).

    .. math:: -\log (1 - q_y), \qquad
              \nabla_{z_y} = q_y, \quad \nabla_{z_v} = q_v - \frac{q_v}{1 - q_y} \quad (v \ne y)

    A bounded way to move away from a token, and a cheap baseline for REDI, whose gradient grows to
    full strength as the token becomes unlikely. The value is computed from the logits of the other
    tokens, so neither value nor gradient needs a clamp where the probability of the label is close
    to 1. Labels must already be aligned with the logits. The loss is 0 where the label is -100.

    Args:
        student: Logits of q.
        labels: Token ids, or -100.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the labels do not have the shape of the logits without their last axis.
        TypeError: If the labels are not integers.

    Welleck et al., Neural Text Generation with Unlikelihood Training, 2020, eq. (4).

    >>> unlikelihood(torch.zeros(2, 4), torch.tensor([3, -100]))
    tensor([0.2877, 0.0000])
    """
    check_labels(student, labels)
    logits, ignored = shifted(widen(student)), labels == IGNORE_INDEX
    target = labels.masked_fill(ignored, 0).long().unsqueeze(-1)
    others = logits.scatter(-1, target, -torch.inf)
    no_others = (others <= -FORBIDDEN).all(-1)  # the gradient would be 0 / 0: make it 0
    rest = others.masked_fill(no_others.unsqueeze(-1), 0.0).logsumexp(-1)
    values = logits.logsumexp(-1) - rest.masked_fill(no_others, -torch.inf)
    return values.masked_fill(ignored, 0.0)
