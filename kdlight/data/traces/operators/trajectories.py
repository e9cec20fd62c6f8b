"""Trajectories: conversations with several turns of the assistant, and results of tools between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kdlight.checks import check_integer
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.prompt_groups import CORRECT, in_order, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number

ERRORS = {"parse": "a parse error", "step_limit": "a step-limit error", "execution": ""}
"""What ``meta["error"]`` may say, and why such a trajectory is dropped, if it is."""


def keep_trajectories(
    traces: Iterable[Trace], *, max_turns: int | None = None, threshold: float = CORRECT
) -> Selection:
    """Keep correct trajectories without errors of format.

    Kang et al., "Distilling LLM Agent into Small Models with Retrieval and Code Tools", 2025, drop
    trajectories with a wrong answer, with a turn that could not be parsed, or that came to the
    limit of steps. They keep those in which a tool failed: these teach a model to go on.

    Args:
        traces: traces with scores. ``meta["error"]`` tells what happened in a trajectory:
            ``"parse"``, ``"step_limit"``, ``"execution"``, or a list of these; it is absent if
            nothing did.
        max_turns: maximal number of turns of the assistant, with the response; None for any.
        threshold: the smallest score of a correct trajectory.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If a trace has no score, or ``meta["error"]`` says something else.

    Example:
        >>> failed = Trace("a", "so 2", score=1, meta={"error": "execution"})
        >>> endless = Trace("a", "so 2", score=1, meta={"error": "step_limit"})
        >>> kept = keep_trajectories([failed, endless])
        >>> [trace.meta["error"] for trace in kept], kept.report()
        (['execution'], 'a step-limit error: 1')
    """
    if max_turns is not None:
        check_integer("max_turns", max_turns, 1)
    check_number("threshold", threshold)
    kept, dropped = [], Counter[str]()
    for trace in in_order(traces):
        reasons = [ERRORS[error] for error in errors_of(trace) if ERRORS[error]]
        if not is_correct(trace, threshold):
            dropped["incorrect"] += 1
        elif reasons:
            dropped[min(reasons)] += 1
        elif max_turns is not None and count_turns(trace) > max_turns:
            dropped["more turns than max_turns"] += 1
        else:
            kept.append(trace)
    return Selection(kept, dropped=dropped)


def errors_of(trace: Trace) -> list[str]:
    """Return the errors that ``meta["error"]`` of a trace names.

    Raises:
        ValueError: If it names another one.

    Example:
        >>> errors_of(Trace("a", "2", meta={"error": "parse"})), errors_of(Trace("a", "2"))
        (['parse'], [])
    """
    named = trace.meta.get("error")
    errors = [] if named is None else list(named) if isinstance(named, (list, tuple)) else [named]
    for error in errors:
        if not isinstance(error, str) or error not in ERRORS:
            raise ValueError(
                f'a trace of prompt {trace.prompt_id!r} has meta["error"] {named!r}, which must be'
                f" one of {', '.join(map(repr, ERRORS))}, a list of these, or absent"
            )
    return errors


def count_turns(trace: Trace) -> int:
    """Return the number of turns of the assistant, with the response.

    Example:
        >>> count_turns(Trace([{"role": "user", "content": "hi"}], "hello"))
        1
    """
    before = () if isinstance(trace.prompt, str) else trace.prompt
    return 1 + sum(message["role"] == "assistant" for message in before)
