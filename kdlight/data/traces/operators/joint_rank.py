"""Select the hardest and longest traces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import floor

from kdlight.checks import check_range
from kdlight.data.traces.operators.requirements import with_difficulty
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.prompt_groups import in_order, lengths
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def joint_rank(traces: Iterable[Trace], *, weight: float = 0.5, keep: float = 0.1) -> Selection:
    """Keep the hardest and longest traces: the best fraction by a weighted mean of two ranks.

    Yang et al., "Select2Reason", 2025, keep 10 %. Their weight is not published; 0.5 is a choice of
    kdlight.

    Args:
        traces: traces with ``difficulty``; those without are dropped, unless none has one.
        weight: weight of the rank by difficulty; the rank by length has ``1 - weight``.
        keep: fraction of the traces to keep, rounded down, but at least one trace.

    Raises:
        TypeError: If a number is of another kind.
        ValueError: If ``weight`` is outside [0, 1] or ``keep`` outside (0, 1], or no trace has a
            difficulty.

    Example:
        >>> traces = [Trace("easy", "2", difficulty=1), Trace("hard", "42", difficulty=5)]
        >>> [trace.prompt for trace in joint_rank(traces, keep=0.5)]
        ['hard']
    """
    check_number("weight", weight)
    check_number("keep", keep)
    check_range("weight", weight, 0, 1)
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be in (0, 1], got {keep}")
    given = in_order(traces)
    ordered = with_difficulty(given)
    by_difficulty = _ranks([trace.difficulty or 0.0 for trace in ordered])
    by_length = _ranks(lengths(ordered))
    ranks = zip(by_difficulty, by_length, strict=True)
    scores = [weight * a + (1 - weight) * b for a, b in ranks]
    best = sorted(range(len(ordered)), key=lambda i: -scores[i])
    # 0.29 * 100 is 28.999999999999996
    number = max(1, floor(round(keep * len(ordered), 9)))
    dropped = {
        "of a lower rank": len(best[number:]),
        "without difficulty": len(given) - len(ordered),
    }
    return Selection([ordered[i] for i in best[:number]], dropped=dropped)


def _ranks(values: Sequence[float]) -> list[float]:
    """Return ranks from 0 to 1; equal values get the mean of their ranks."""
    positions = defaultdict(list)
    for position, value in enumerate(sorted(values)):
        positions[value].append(position)
    last = max(len(values) - 1, 1)
    return [sum(positions[value]) / len(positions[value]) / last for value in values]
