"""Operators: functions from traces to traces that select, order or change them.

All of them check their arguments before they look at a trace, do not depend on the order of the
traces, and tell what they dropped, see `kdlight.data.traces.operators.selection.Selection`.
"""

from __future__ import annotations

from collections.abc import Callable

from kdlight.data.traces.operators.code_switching import code_switch
from kdlight.data.traces.operators.correctness import shortest_correct, verified_rejection
from kdlight.data.traces.operators.difficulty import adaptive_difficulty, pass_rate_band
from kdlight.data.traces.operators.first_thought import first_thought_prefix
from kdlight.data.traces.operators.joint_rank import joint_rank
from kdlight.data.traces.operators.length_control import length_control
from kdlight.data.traces.operators.length_pairs import length_pairs
from kdlight.data.traces.operators.prefixes import shortest_prefix
from kdlight.data.traces.operators.quality import quality_filter
from kdlight.data.traces.operators.rewriting import rewrite
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.steps import serialise_steps
from kdlight.data.traces.operators.teacher_mix import teacher_mix
from kdlight.data.traces.operators.thinking import without_thinking
from kdlight.data.traces.operators.thoughts import revise_thoughts
from kdlight.data.traces.operators.trajectories import keep_trajectories

OPERATORS: dict[str, Callable[..., Selection]] = {
    operator.__name__: operator
    for operator in (
        adaptive_difficulty,
        code_switch,
        first_thought_prefix,
        joint_rank,
        keep_trajectories,
        length_control,
        length_pairs,
        pass_rate_band,
        quality_filter,
        revise_thoughts,
        rewrite,
        serialise_steps,
        shortest_correct,
        shortest_prefix,
        teacher_mix,
        verified_rejection,
        without_thinking,
    )
}
"""The operators by the names that a config uses."""
