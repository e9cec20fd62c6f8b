"""What an operator needs of traces: teachers that are there, and difficulties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdlight.data.traces.trace import Trace


def check_teachers(name: str, wanted: Iterable[str], traces: list[Trace]) -> None:
    """Raise an error for names of teachers of whom there are no traces.

    Raises:
        ValueError: If there are traces, and none is of such a teacher.

    Example:
        >>> check_teachers("weights", ["b"], [Trace("1 + 1 =", "2", teacher="a")])
        Traceback (most recent call last):
        ValueError: weights: no trace is of the teacher 'b'; there are those of 'a'
    """
    there = {trace.teacher or "" for trace in traces}
    unknown = sorted(set(wanted) - there)
    if traces and unknown:
        raise ValueError(
            f"{name}: no trace is of the teacher {', '.join(map(repr, unknown))}; there are those"
            f" of {', '.join(map(repr, sorted(there)))}"
        )


def with_difficulty(traces: Sequence[Trace]) -> list[Trace]:
    """Return the traces that have a difficulty.

    Raises:
        ValueError: If there are traces, and none has one.
    """
    known = [trace for trace in traces if trace.difficulty is not None]
    if traces and not known:
        raise ValueError(
            "no trace has a difficulty; fill it with kdlight traces score, or set `difficulty` of"
            " the traces that you select by it"
        )
    return known
