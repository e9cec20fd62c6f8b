"""TAID's adaptive schedule as a pure law."""

from __future__ import annotations

from math import exp, inf, isfinite
from typing import NamedTuple

LARGEST_RISE = 10.0


class TAIDState(NamedTuple):
    """State of TAID's schedule, in double precision.

    Attributes:
        t: weight of the teacher in the target of the next step.
        momentum: moving average of the relative decrease of the loss.
        previous_loss: loss of the last step that was finite; infinite before the first.

    Example:
        >>> TAIDState(t=0.2)
        TAIDState(t=0.2, momentum=0.0, previous_loss=inf)
    """

    t: float = 0.4
    momentum: float = 0.0
    previous_loss: float = inf


def taid_step(
    state: TAIDState,
    loss: float,
    progress: float,
    *,
    t_start: float = 0.4,
    t_end: float = 1.0,
    alpha: float = 5e-4,
    beta: float = 0.99,
    adaptive: bool = True,
) -> TAIDState:
    r"""The next state of TAID's adaptive schedule.

    .. math::
        m' &= \beta m + (1 - \beta)\, (J_{prev} - J) / J_{prev} \\
        t' &= \min(t_{end}, \max(t_{start} + (t_{end} - t_{start})\, s,\;
              t + \alpha\, \sigma(m')(1 - t)))

    Shing et al., "TAID: Temporally Adaptive Interpolated Distillation", 2025, algorithm 1. The
    first finite loss is only remembered: ``t`` stays where it is. ``t`` never falls and stays in
    [t_start, t_end], with or without adaptation. A loss that is not finite changes nothing.

    A KL that starts near 0 (it does where t_start is 0, the target being the student) rises by
    huge factors, and would silence the momentum for thousands of steps. So a rise counts as at
    most tenfold, and beside a previous loss of exactly 0 nothing is counted. A decrease counts as
    at most the whole, which matters only where rounding made a loss negative.

    Args:
        state: the state before.
        loss: loss of the step just done, the same on all ranks.
        progress: share of the optimizer steps that were done before this one, in [0, 1].
        t_start: where t starts, in [0, 1).
        t_end: where it ends, in (t_start, 1].
        alpha: size of an adaptive step; below 2 / steps of the run the linear floor always leads.
        beta: memory of the momentum.
        adaptive: False follows the linear floor alone.

    Returns:
        The state after.

    Example:
        >>> state = taid_step(TAIDState(t=0.4), 2.0, 0.0)
        >>> taid_step(state, 1.0, 0.1).t
        0.46
    """
    if not isfinite(loss):
        return state
    floor = t_start + (t_end - t_start) * min(max(progress, 0.0), 1.0)
    t, momentum, previous = state
    if previous == inf:
        return TAIDState(min(max(t, t_start), t_end), momentum, loss)
    if previous != 0:
        decrease = (previous - loss) / previous
        momentum = beta * momentum + (1 - beta) * min(max(-LARGEST_RISE, decrease), 1.0)
    step = alpha * _sigmoid(momentum) * (1 - t) if adaptive else 0.0
    return TAIDState(min(t_end, max(floor, t + step)), momentum, loss)


def check_taid(*, t_start: float, t_end: float, alpha: float, beta: float) -> None:
    """Raise a ValueError where the numbers make no schedule.

    Example:
        >>> check_taid(t_start=0.4, t_end=0.3, alpha=5e-4, beta=0.99)
        Traceback (most recent call last):
        ValueError: t_end must be in (t_start, 1] = (0.4, 1], got 0.3
    """
    if not 0.0 <= t_start < 1.0:
        raise ValueError(f"t_start must be in [0, 1), got {t_start}")
    if not t_start < t_end <= 1.0:
        raise ValueError(f"t_end must be in (t_start, 1] = ({t_start}, 1], got {t_end}")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta must be in [0, 1), got {beta}")


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))
