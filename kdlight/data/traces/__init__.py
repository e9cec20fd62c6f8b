"""Traces: responses of a teacher to prompts, from sampling and scoring them to batches of them."""

from __future__ import annotations

from kdlight.data.traces.budget import allocate_budget
from kdlight.data.traces.formats import to_traces
from kdlight.data.traces.generate import generate_traces
from kdlight.data.traces.module import TracesDataModule
from kdlight.data.traces.operators import OPERATORS
from kdlight.data.traces.operators.code_switching import code_switch
from kdlight.data.traces.operators.compose import Compose
from kdlight.data.traces.operators.correctness import shortest_correct, verified_rejection
from kdlight.data.traces.operators.difficulty import (
    adaptive_difficulty,
    level_distribution,
    pass_rate_band,
)
from kdlight.data.traces.operators.first_thought import first_thought_prefix
from kdlight.data.traces.operators.joint_rank import joint_rank
from kdlight.data.traces.operators.length_control import length_control
from kdlight.data.traces.operators.length_pairs import length_pairs
from kdlight.data.traces.operators.prefixes import shortest_prefix
from kdlight.data.traces.operators.quality import quality_filter
from kdlight.data.traces.operators.rewriting import rewrite
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.steps import serialise_steps
from kdlight.data.traces.operators.teacher_mix import summarize_teachers, teacher_mix
from kdlight.data.traces.operators.thinking import split_thinking, without_thinking
from kdlight.data.traces.operators.thoughts import revise_thoughts
from kdlight.data.traces.operators.trajectories import keep_trajectories
from kdlight.data.traces.readers import read_traces
from kdlight.data.traces.reasoning_effect import reasoning_helps
from kdlight.data.traces.responses import answer
from kdlight.data.traces.scoring.judge import judge_difficulty
from kdlight.data.traces.scoring.pass_rate import pass_rate_difficulty
from kdlight.data.traces.scoring.perplexity import perplexities
from kdlight.data.traces.scoring.response_tokens import count_tokens
from kdlight.data.traces.scoring.score import score_traces
from kdlight.data.traces.trace import Trace, write_traces
from kdlight.data.traces.verification.verifiers import exact, number
from kdlight.data.traces.verification.verify import verify_traces
from kdlight.models.sampling import Sampling

__all__ = [
    "OPERATORS",
    "Compose",
    "Sampling",
    "Selection",
    "Trace",
    "TracesDataModule",
    "adaptive_difficulty",
    "allocate_budget",
    "answer",
    "code_switch",
    "count_tokens",
    "exact",
    "first_thought_prefix",
    "generate_traces",
    "joint_rank",
    "keep_trajectories",
    "judge_difficulty",
    "length_control",
    "length_pairs",
    "level_distribution",
    "number",
    "pass_rate_band",
    "pass_rate_difficulty",
    "perplexities",
    "quality_filter",
    "read_traces",
    "reasoning_helps",
    "revise_thoughts",
    "rewrite",
    "score_traces",
    "serialise_steps",
    "shortest_correct",
    "shortest_prefix",
    "split_thinking",
    "summarize_teachers",
    "teacher_mix",
    "to_traces",
    "verified_rejection",
    "verify_traces",
    "without_thinking",
    "write_traces",
]
