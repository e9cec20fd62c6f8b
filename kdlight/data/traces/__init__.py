"""Traces: responses of a teacher to prompts, from sampling and scoring them to batches of them."""

from __future__ import annotations

from kdlight.data.traces.difficulty_selection import (
    adaptive_difficulty,
    joint_rank,
    pass_rate_band,
)
from kdlight.data.traces.formats import to_traces
from kdlight.data.traces.generate import generate_traces
from kdlight.data.traces.length_control import length_control
from kdlight.data.traces.module import TracesDataModule
from kdlight.data.traces.readers import read_traces
from kdlight.data.traces.response_selection import (
    quality_filter,
    shortest_correct,
    verified_rejection,
)
from kdlight.data.traces.responses import answer
from kdlight.data.traces.teacher_mixing import teacher_mix
from kdlight.data.traces.trace import Trace, write_traces
from kdlight.data.traces.verifiers import exact, number
from kdlight.data.traces.verify import verify_traces
from kdlight.models.sampling import Sampling

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
