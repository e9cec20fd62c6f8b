"""Traces grouped by prompt, and which of them are correct."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kdlight.checks import check_finite
from kdlight.data.traces.trace import Trace

CORRECT = 0.9
"""Default of ``threshold``: the smallest score of a correct trace."""


def group_by_prompt(traces: Iterable[Trace]) -> dict[str, list[Trace]]:
    """Return the traces of each prompt; prompts and traces are sorted by `Trace.key`."""
    prompts: dict[str, list[Trace]] = defaultdict(list)
    for trace in sorted(traces, key=lambda trace: trace.key):
        prompts[trace.prompt_id].append(trace)
    return dict(prompts)


def is_correct(trace: Trace, threshold: float = CORRECT) -> bool:
    """Return whether the score of a trace is at least ``threshold``.

    This decides everywhere what is chosen and what is rejected.

    Raises:
        ValueError: If the trace has no score, or the threshold is not finite.
    """
    check_finite("threshold", threshold)
    if trace.score is None:
        raise ValueError(
            f"a trace of prompt {trace.prompt_id!r} has no score; verify traces (kdlight traces"
            " verify) before you select them by correctness"
        )
    return trace.score >= threshold
