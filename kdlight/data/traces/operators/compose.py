"""Operators with parameters, one after the other, and the table of what each of them kept."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple

from kdlight.checks import check_type
from kdlight.data.traces.functions import find_function
from kdlight.data.traces.operators import OPERATORS
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.trace import Trace

Operator = Callable[..., "list[Trace]"]


class Step(NamedTuple):
    """What one operator did: its name, the number of traces that it got, and what it kept."""

    name: str
    read: int
    kept: Selection


class Compose:
    """Apply operators one after the other.

    Args:
        operators: each is the name of an operator of `kdlight.data.traces`, or of one's own as
            ``module:function`` or ``file.py:function``; a mapping of one such name to parameters;
            or a function.

    Raises:
        TypeError: An entry of another kind.
        ValueError: An unknown operator or parameter, or a parameter that the operator refuses. All
            is checked at once, before there are traces.

    Example:
        >>> select = Compose([{"quality_filter": {"max_length": 9}}, "length_control"])
        >>> traces = [Trace("a", text, score=1, n_tokens=len(text)) for text in ("2", "so 2")]
        >>> [trace.prompt for trace in select(traces)]
        ['[long] a', '[short] a']
    """

    def __init__(self, operators: Sequence[str | Mapping[str, Any] | Operator]) -> None:
        kinds = "a list of operators, each a name or a mapping of one name to parameters"
        if isinstance(operators, (str, Mapping)):
            operators = [operators]
        check_type("select", operators, Sequence, kinds)
        if not operators:
            raise ValueError("select must hold at least one operator, got none")
        self.operators = [_operator(number, each) for number, each in enumerate(operators, start=1)]

    def __call__(self, traces: Iterable[Trace]) -> list[Trace]:
        """Return the traces that the last operator keeps."""
        traces = list(traces)
        steps = self.steps(traces)
        return steps[-1].kept

    def steps(self, traces: Sequence[Trace]) -> list[Step]:
        """Return what each operator kept; the last one has the result."""
        done = []
        for name, operator in self.operators:
            kept = _checked(name, operator(list(traces)))
            done.append(Step(name, len(traces), kept))
            traces = kept
        return done


def table(steps: Iterable[Step]) -> str:
    """Return a table of how many traces each operator got, kept and dropped, and why.

    Example:
        >>> kept = Selection([Trace("a", "1")], dropped={"too long": 2})
        >>> print(table([Step("quality_filter", 3, kept)]))
        operator        read  kept  dropped  why
        quality_filter     3     1        2  too long: 2
    """
    rows = [("operator", "read", "kept", "dropped", "why")]
    for name, read, kept in steps:
        dropped = sum(kept.dropped.values()) or max(read - len(kept), 0)
        rows.append((name, f"{read:,}", f"{len(kept):,}", f"{dropped:,}", kept.report()))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True)]
            + [row[4]]
        ).rstrip()
        for row in rows
    )


def _operator(number: int, entry: Any) -> tuple[str, Callable[[Sequence[Trace]], list[Trace]]]:
    """Return name and function of an operator, which has been tried on no traces."""
    place = f"select: operator {number}"
    check_type(place, entry, (str, Mapping, Callable), "a name, a mapping or a function")
    parameters: Mapping[str, Any] = {}
    if isinstance(entry, Mapping):
        if len(entry) != 1:
            raise ValueError(
                f"{place} must be a mapping of one name to its parameters, got {dict(entry)}"
            )
        ((entry, parameters),) = entry.items()
        check_type(f"{place}: the name", entry, str, "a text")
        parameters = {} if parameters is None else parameters
        check_type(f"{place}, {entry!r}", parameters, Mapping, "a mapping of parameters")
    try:
        function = find_function(entry, OPERATORS, what="operator", does="from traces to traces")
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    name = entry if isinstance(entry, str) else getattr(entry, "__name__", repr(entry))
    _check_parameters(f"{place}, {name!r}", function, parameters)
    operator = partial(function, **parameters)
    try:
        _checked(name, operator([]))
    except TypeError as error:
        raise TypeError(f"{place}, {name!r}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{place}, {name!r}: {error}") from error
    except Exception as error:  # the function of a user can fail in any way
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{place}, {name!r} fails on an empty list: {reason}") from error
    return name, operator


def _checked(name: str, kept: Any) -> Selection:
    """Return what an operator returns as a selection; that of a user returns a list."""
    if isinstance(kept, Selection):
        return kept
    if not isinstance(kept, Iterable) or isinstance(kept, (str, Mapping)):
        raise TypeError(f"the operator {name!r} must return a list of traces, got {kept!r}")
    kept = list(kept)
    for trace in kept:
        check_type(f"what the operator {name!r} returns", trace, Trace, "traces")
    return Selection(kept)


def _check_parameters(place: str, function: Operator, parameters: Mapping[str, Any]) -> None:
    try:
        _, *known = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # the function of a user tells no parameters
        return
    if any(each.kind == each.VAR_KEYWORD for each in known):
        return
    names = [each.name for each in known]
    for name in parameters:
        if name not in names:
            close = get_close_matches(str(name), names) or names
            raise ValueError(
                f"{place} has no parameter {name!r}; did you mean {', '.join(close) or 'none'}?"
            )
    needed = [each.name for each in known if each.default is each.empty]
    lacking = [name for name in needed if name not in parameters]
    if lacking:
        raise ValueError(f"{place} needs the parameter {', '.join(lacking)}")
