"""KL divergences to a mixture of student and teacher, in closed form.

See `kdlight.losses.value_and_grad`. The ratio to the mixture is computed before its logarithm, as
in `kdlight.losses.mixtures`: it is exactly 1 where student and teacher agree.
"""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.value_and_grad import TINY, dot


def skew_forward_kl(student: Tensor, teacher: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.skew_forward_kl` for 0 < skew < 1.

    The gradient is (1 - skew) q (<q, r> - r), where r = p / m - 1.
    """
    q, p = student.softmax(-1), teacher.softmax(-1)
    ratio = _ratio(p, q, skew)
    values = dot(p, ratio.log())
    excess = ratio.sub_(1.0)
    return values, excess.sub_(dot(q, excess).unsqueeze(-1)).mul_(q).mul_(skew - 1.0)


def skew_reverse_kl(student: Tensor, teacher: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of `kdlight.losses.skew_reverse_kl` for 0 < skew < 1.

    The gradient is q (s - <q, s>), where s = log r - skew r and r = q / m.
    """
    q, p = student.softmax(-1), teacher.softmax(-1)
    ratio = _ratio(q, p, skew)
    log_ratio = ratio.log()
    values = dot(q, log_ratio)
    slopes = log_ratio.sub_(ratio.sub_(1.0).mul_(skew))
    return values, slopes.sub_(dot(q, slopes).unsqueeze(-1)).mul_(q)


def _ratio(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """The first over the mixture of both, above 0, in a new tensor."""
    # torch.compile would make the weight of a lerp a constant, and compile again for each other one
    mixture = (first - second).mul_(weight).add_(second).clamp_min_(TINY)
    return (first / mixture).clamp_min_(TINY)
