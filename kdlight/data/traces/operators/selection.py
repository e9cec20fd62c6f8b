"""What an operator returns: the traces that it keeps, and what became of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lightning.pytorch.utilities import rank_zero_warn

from kdlight.data.traces.trace import Trace


class Selection(list[Trace]):
    """A list of the traces that an operator keeps, with a report on the others.

    An operator is a function from traces to traces. It checks its arguments before it looks at a
    trace, its result does not depend on the order of the traces, and it returns an empty selection
    of no traces.

    Args:
        traces: the traces that are kept.
        dropped: number of dropped traces by reason.
        missing: number of traces or prompts that were asked for and not found, by what they are.
        notes: further lines of the report.

    Example:
        >>> kept = Selection([Trace("1 + 1 =", "2")], dropped={"too long": 3})
        >>> len(kept), kept.report()
        (1, 'too long: 3')
    """

    def __init__(
        self,
        traces: Iterable[Trace] = (),
        *,
        dropped: Mapping[str, int] | None = None,
        missing: Mapping[str, int] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(traces)
        self.dropped = Counter({name: n for name, n in (dropped or {}).items() if n})
        self.missing = Counter({name: n for name, n in (missing or {}).items() if n})
        self.notes = list(notes)

    def report(self) -> str:
        """Return why traces were dropped, what is missing, and the notes, in one line."""
        return "; ".join(
            [f"{reason}: {count}" for reason, count in sorted(self.dropped.items())]
            + [f"missing {what}: {count}" for what, count in sorted(self.missing.items())]
            + self.notes
        )


def warn_of_missing(operator: str, selection: Selection, *, remedy: str) -> Selection:
    """Warn if an operator found less than it was asked for, and return its selection.

    Args:
        operator: name of the operator.
        selection: what it found.
        remedy: what a user can do.
    """
    if selection.missing:
        missing = ", ".join(f"{what}: {n}" for what, n in sorted(selection.missing.items()))
        rank_zero_warn(f"{operator} found fewer than it was asked for, missing {missing}; {remedy}")
    return selection
