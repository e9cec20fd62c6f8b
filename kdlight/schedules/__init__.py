"""Schedules as pure laws: steps or state in, a number or a new state out; no trainer, no clock."""

from __future__ import annotations

from kdlight.schedules.schedule import Constant, Cosine, Exponential, Law, Linear
from kdlight.schedules.sequences import Join, Piecewise, Warmup
from kdlight.schedules.taid import TAIDState, check_taid, taid_step

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "Join",
    "Law",
    "Linear",
    "Piecewise",
    "TAIDState",
    "Warmup",
    "check_taid",
    "taid_step",
]
