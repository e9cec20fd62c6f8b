"""Schedules as pure functions of steps or of a state, without a trainer or a clock."""

from __future__ import annotations

from kdlight.schedules.domain_weights import domain_weights
from kdlight.schedules.schedule import Constant, Schedule
from kdlight.schedules.sequences import Join, Piecewise, Warmup
from kdlight.schedules.taid import TAIDState, check_taid, taid_step
from kdlight.schedules.transitions import Cosine, Exponential, Linear

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "Join",
    "Linear",
    "Piecewise",
    "Schedule",
    "TAIDState",
    "Warmup",
    "check_taid",
    "domain_weights",
    "taid_step",
]
