"""TAID's adaptive schedule as a pure function of its state."""

from __future__ import annotations

from math import exp, inf, isfinite
from typing import NamedTuple

from kdlight.checks import check_range

LARGEST_RISE = 10.0
"""The default limit on the relative increase of the loss in one step."""


class TAIDState(NamedTuple):
    """State of TAID's schedule, in double precision.

    Attributes:
        t: Weight of the teacher in the target of the next step.
        momentum: Moving average of the relative decrease of the loss.
        previous_loss: The last finite loss; infinite before the first.

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
    largest_rise: float = LARGEST_RISE,
) -> TAIDState:
    r"""Compute the next state of TAID's adaptive schedule.

    .. math::
        m' &= \beta m + (1 - \beta)\, (J_{prev} - J) / J_{prev} \\
        t' &= \min(t_{end}, \max(t_{start} + (t_{end} - t_{start})\, s,\;
              t + \alpha\, \sigma(m')(1 - t)))

    The first finite loss is only stored, and ``t`` does not change. ``t`` never decreases and stays
    in [t_start, t_end], with or without adaptation. A loss that is not finite changes nothing.

    A KL that starts near 0 (for t_start = 0 the target is the student) increases by huge factors at
    first, and would keep the momentum down for thousands of steps. So an increase counts as at most
    tenfold (``largest_rise``, which is not part of the published schedule), and after a loss of
    exactly 0 the momentum does not change. A decrease counts as at most 1, which matters only where
    rounding made a loss negative.

    Args:
        state: The state before the step.
        loss: Loss of the finished step, the same on all ranks.
        progress: Fraction of the optimizer steps that were finished before this one, in [0, 1].
        t_start: First value of t, in [0, 1).
        t_end: Last value of t, in (t_start, 1].
        alpha: Size of an adaptive step. Below 2 / (steps of the run) the linear lower bound always
            determines t.
        beta: Decay of the momentum.
        adaptive: False uses the linear lower bound alone.
        largest_rise: A relative increase of the loss counts as at most this; infinity for no limit,
            as published.

    Returns:
        The state after the step.

    Shing et al., "TAID: Temporally Adaptive Interpolated Distillation", 2025, algorithm 1.

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
        decrease = min(max(-largest_rise, -relative_rise(state, loss)), 1.0)
        momentum = beta * momentum + (1 - beta) * decrease
    step = alpha * _sigmoid(momentum) * (1 - t) if adaptive else 0.0
    return TAIDState(min(t_end, max(floor, t + step)), momentum, loss)


def relative_rise(state: TAIDState, loss: float) -> float:
    """Return the increase of the loss since the last step relative to it; 0 where there is none.

    Example:
        >>> relative_rise(TAIDState(previous_loss=0.5), 2.0)
        3.0
    """
    previous = state.previous_loss
    return (loss - previous) / previous if isfinite(previous) and previous != 0 else 0.0


def check_taid(
    *,
    t_start: float,
    t_end: float,
    alpha: float,
    beta: float,
    largest_rise: float = LARGEST_RISE,
) -> None:
    """Raise an error for hyper-parameters of `taid_step` that are out of range.

    Raises:
        ValueError: If one is; the message names it, the range and the value.

    Example:
        >>> check_taid(t_start=0.4, t_end=0.3, alpha=5e-4, beta=0.99)
        Traceback (most recent call last):
        ValueError: t_end must be in (t_start, 1] = (0.4, 1], got 0.3
    """
    check_range("t_start", t_start, 0, 1, open_high=True)
    if not t_start < t_end <= 1.0:
        raise ValueError(f"t_end must be in (t_start, 1] = ({t_start}, 1], got {t_end}")
    check_range("alpha", alpha, 0, 1)
    check_range("beta", beta, 0, 1, open_high=True)
    check_range("largest_rise", largest_rise, 0, inf)


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))
