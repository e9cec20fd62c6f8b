"""Unlikelihood: away from labels, by a force that dies once they are unlikely."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.cross_entropy import IGNORED, check_labels
from kdlight.losses.log_space import widen


def unlikelihood(student: Tensor, labels: Tensor) -> Tensor:
    r"""Negative log-probability of any other token than the label, (..., V), (...) -> (...).

    .. math:: -\log (1 - q_y), \qquad
              \nabla_{z_y} = q_y, \quad \nabla_{z_v} = q_v - \frac{q_v}{1 - q_y} \quad (v \ne y)

    The bounded way to move away from a token, and a cheap control for REDI, whose push grows to
    full strength as the token becomes unlikely. It is made from the logits of the other tokens, so
    neither the value nor the gradient needs a clamp where the label is nearly certain. Labels are
    already aligned with the logits; a label of -100 gives 0.

    Args:
        student: Logits of q.
        labels: Token ids, or -100.

    Raises:
        ValueError: If the labels do not have the shape of the logits without their last axis.
        TypeError: If the labels are not integers.

    Welleck et al., Neural Text Generation with Unlikelihood Training, 2020, eq. (4).

    >>> unlikelihood(torch.zeros(2, 4), torch.tensor([3, -100]))
    tensor([0.2877, 0.0000])
    """
    check_labels(student, labels)
    logits, ignored = widen(student), labels == IGNORED
    target = labels.masked_fill(ignored, 0).long().unsqueeze(-1)
    others = logits.scatter(-1, target, -torch.inf)
    alone = others.isneginf().all(-1)  # no other token is allowed: no slope, where 0 / 0 would be
    rest = others.masked_fill(alone.unsqueeze(-1), 0.0).logsumexp(-1)
    values = logits.logsumexp(-1) - rest.masked_fill(alone, -torch.inf)
    return values.masked_fill(ignored, 0.0)
