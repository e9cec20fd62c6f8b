"""TAID: the target walks from the student to the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.checks import check_range
from kdlight.losses.kl import kl
from kdlight.losses.log_space import log_probs, probs, tempered_pair


def taid(student: Tensor, teacher: Tensor, *, t: float | Tensor) -> Tensor:
    r"""KL from an interpolated target to the student, (..., V), (..., V) -> (...).

    .. math:: \operatorname{KL}(p_t \| q), \qquad
              p_t = \operatorname{softmax}((1 - t) \operatorname{sg}(z_s) + t z_p), \qquad
              \nabla_{z_s} = q - p_t

    For a large gap: the student first follows a target near itself, and the teacher at the end.
    The gradient walks with it, from mode seeking to covering: to first order in t it is t times
    that of `reverse_kl`, and at t = 1 that of `forward_kl`.

    The logits are interpolated, not the probabilities, in float32 or wider, and the student's half
    takes no gradient. At t = 0 value and gradient are exactly 0, at t = 1 it is `forward_kl`; in
    between, a token that either side forbids (-inf) leaves the target.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape.
        t: The position of the target in [0, 1]; a 0-d tensor is not checked, and so never makes the
            host wait for the device.

    Raises:
        ValueError: If the shapes differ or t is out of range.
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
    target = _between(student.detach(), teacher, t)
    divergence = kl(log_probs(target), log_probs(student), p=probs(target))
    return divergence * (t != 0)  # the target at 0 is q up to the last bit: make it exact


def _between(near: Tensor, far: Tensor, t: float | Tensor) -> Tensor:
    """Logits at t on the way from near to far, (..., V), (..., V) -> (..., V)."""
    # -inf - -inf and 0 * -inf would be NaN; the lowest float forbids a token as well.
    lowest = torch.finfo(far.dtype).min
    near, far = near.clamp(min=lowest), far.clamp(min=lowest)
    return torch.lerp(near, far, t.to(far) if isinstance(t, Tensor) else t)
