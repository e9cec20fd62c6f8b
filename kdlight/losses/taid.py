"""TAID: KL to a target that moves from the student to the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.checks import check_range
from kdlight.losses.kl import kl
from kdlight.losses.log_space import log_probs, probs, shifted, tempered_pair


def taid(student: Tensor, teacher: Tensor, *, t: float | Tensor) -> Tensor:
    r"""KL from an interpolated target to the student, (..., V), (..., V) -> (...).

    .. math:: \operatorname{KL}(p_t \| q), \qquad
              p_t = \operatorname{softmax}((1 - t) \operatorname{sg}(z_s) + t z_p), \qquad
              \nabla_{z_s} = q - p_t

    For a large capacity gap: the target is close to the student at first, and is the teacher at the
    end. The gradient changes from mode-seeking to mode-covering: to first order in t it is t times
    that of `reverse_kl`, and at t = 1 it is that of `forward_kl`.

    The logits are interpolated, not the probabilities, in float32 or wider, and the student's part
    of the target takes no gradient. At t = 0 value and gradient are exactly 0, and at t = 1 the
    loss is `forward_kl`. In between, a token with a logit of -inf on either side has probability 0
    in the target.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape.
        t: The position of the target, in [0, 1]. A 0-d tensor is not checked, which avoids a
            synchronisation of host and device.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, or t is out of range.
        TypeError: If the logits are not floating point.

    Shing, Misaki, Bao, Yokoi, Akiba, TAID: Temporally Adaptive Interpolated Distillation for
    Efficient Knowledge Transfer in Language Models, 2025.

    >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> taid(student, teacher, t=0.5)
    tensor([0.0303])
    """
    if not isinstance(t, Tensor):
        check_range("t", t, 0.0, 1.0)
    student, teacher = tempered_pair(student, teacher)
    target = _interpolate(student.detach(), teacher, t)
    divergence = kl(log_probs(target), log_probs(student), p=probs(target))
    return divergence * (t != 0)  # at t = 0 the target is q up to rounding: make the loss exactly 0


def _interpolate(start: Tensor, end: Tensor, t: float | Tensor) -> Tensor:
    """Logits at t between start and end, (..., V), (..., V) -> (..., V)."""
    # -inf - -inf and 0 * -inf would be NaN; the lowest float gives a probability of 0, too.
    lowest = torch.finfo(end.dtype).min
    start, end = (shifted(each).clamp(min=lowest) for each in (start, end))
    t = t.to(end) if isinstance(t, Tensor) else t
    # torch.compile would make the weight of a lerp a constant, and compile again for each other one
    return start * (1 - t) + end * t
