"""Traces: what a teacher answered, right and wrong, from making them to batches of them."""

from __future__ import annotations

from kdlight.data.traces.by_difficulty import adaptive_difficulty, joint_rank, pass_rate_band
from kdlight.data.traces.by_trace import (
    length_control,
    quality_filter,
    shortest_correct,
    teacher_mix,
    verified_rejection,
)
from kdlight.data.traces.formats import to_traces
from kdlight.data.traces.generate import Sampling, answer, generate_traces
from kdlight.data.traces.module import TracesDataModule
from kdlight.data.traces.readers import read_traces
from kdlight.data.traces.record import Trace, write_traces
from kdlight.data.traces.verify import exact, number, verify_traces

__all__ = [
    "Sampling",
    "Trace",
    "TracesDataModule",
    "adaptive_difficulty",
    "answer",
    "exact",
    "generate_traces",
    "joint_rank",
    "length_control",
    "number",
    "pass_rate_band",
    "quality_filter",
    "read_traces",
    "shortest_correct",
    "teacher_mix",
    "to_traces",
    "verified_rejection",
    "verify_traces",
    "write_traces",
]
