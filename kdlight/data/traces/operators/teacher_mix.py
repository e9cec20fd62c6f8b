"""Traces of several teachers on the same prompts, combined and compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, quantiles
from typing import Any, Literal, NamedTuple

from kdlight.checks import check_choice, check_type
from kdlight.data.traces.operators.requirements import check_teachers
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.prompt_groups import group_by_prompt, in_order, lengths
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def teacher_mix(
    traces: Iterable[Trace],
    *,
    weights: Mapping[str, float] | None = None,
    teachers: Sequence[str] | None = None,
    per_prompt: Literal["one", "best", "all"] = "best",
) -> Selection:
    """Combine traces of several teachers on the same prompts.

    The report compares the teachers by `summarize_teachers`: Tian et al., "Not All Correct Answers
    Are Equal", 2025, explain by spread of length and perplexity which source teaches best.

    Args:
        traces: traces with ``teacher``; with a score, unless all are kept.
        weights: for ``"one"``, the relative number of prompts that each teacher gets; by default
            all get the same. A prompt goes to the teacher with traces of it that is furthest below
            its share.
        teachers: use traces of these teachers only; None for those in ``weights``, else all.
        per_prompt: ``"best"`` keeps the best trace by score, then perplexity if all traces of the
            prompt have one, then length; ``"one"`` the best trace of one teacher, chosen by
            ``weights``; ``"all"`` every trace.

    Raises:
        TypeError: If a weight is no number.
        ValueError: If a weight is not above 0 and finite or is given without ``"one"``, there is no
            such teacher, ``per_prompt`` is another word, or the best trace is asked for and a trace
            has no score.

    Example:
        >>> responses = [("one", "3", 0.0), ("two", "2", 1.0)]
        >>> traces = [Trace("1 + 1 =", text, teacher=t, score=s) for t, text, s in responses]
        >>> [trace.response for trace in teacher_mix(traces)]
        ['2']
    """
    check_choice("per_prompt", per_prompt, ("one", "best", "all"))
    if weights is not None:
        check_type("weights", weights, Mapping, "a mapping of teachers to numbers")
    for weight in (weights or {}).values():
        check_number("weights", weight)
    if weights is not None and not (weights and all(w > 0 for w in weights.values())):
        raise ValueError(f"weights must be above 0, one for each teacher, got {weights}")
    if weights is not None and per_prompt != "one":
        raise ValueError(
            f"weights share out prompts with per_prompt='one', got per_prompt={per_prompt!r}; use"
            " `teachers` to choose teachers"
        )
    is_list = isinstance(teachers, Sequence) and not isinstance(teachers, str) and teachers
    if teachers is not None and not is_list:
        raise ValueError(f"teachers must be a list of names, got {teachers!r}")
    if weights is not None and teachers is not None and set(teachers) != set(weights):
        raise ValueError(
            f"teachers and weights must name the same teachers, got {list(teachers)} and"
            f" {list(weights)}; leave teachers out"
        )
    ordered = in_order(traces)
    wanted = set(weights or () if teachers is None else teachers)
    check_teachers("weights", weights or (), ordered)
    check_teachers("teachers", wanted, ordered)
    known = [trace for trace in ordered if not wanted or (trace.teacher or "") in wanted]
    dropped = Counter({"of another teacher": len(ordered) - len(known)})
    kept = known if per_prompt == "all" else _best(known, per_prompt == "one", weights)
    dropped["not the best"] = len(known) - len(kept)
    notes = [summary.line(name) for name, summary in summarize_teachers(kept).items()]
    return Selection(kept, dropped=dropped, notes=notes)


class TeacherSummary(NamedTuple):
    """The traces of a teacher.

    Attributes:
        traces: their number.
        prompts: number of their prompts.
        shortest: the tenth percentile of their lengths, in tokens if all traces are counted.
        longest: the ninetieth percentile.
        perplexity: mean of the perplexities of the traces that have one; None if none has.
    """

    traces: int
    prompts: int
    shortest: float
    longest: float
    perplexity: float | None

    def line(self, name: str) -> str:
        """Return the summary in words."""
        perplexity = "" if self.perplexity is None else f", perplexity {self.perplexity:.3g}"
        return (
            f"{name or 'no teacher'}: {self.traces} traces of {self.prompts} prompts, lengths"
            f" {self.shortest:.0f} to {self.longest:.0f}{perplexity}"
        )


def summarize_teachers(traces: Iterable[Trace]) -> dict[str, TeacherSummary]:
    """Return number, spread of lengths and mean perplexity of the traces of each teacher.

    Example:
        >>> traces = [Trace("1 + 1 =", text, teacher="a") for text in ("2", "It is 2")]
        >>> print(summarize_teachers(traces)["a"].line("a"))
        a: 2 traces of 1 prompts, lengths 2 to 6
    """
    ordered = in_order(traces)
    by_teacher: dict[str, list[tuple[int, Trace]]] = defaultdict(list)
    for size, trace in zip(lengths(ordered), ordered, strict=True):
        by_teacher[trace.teacher or ""].append((size, trace))
    summaries = {}
    for name, rows in sorted(by_teacher.items()):
        sizes = [size for size, _ in rows]
        tenths = quantiles(sizes, n=10, method="inclusive") if len(sizes) > 1 else sizes * 9
        known = [t.perplexity for _, t in rows if t.perplexity is not None]
        summaries[name] = TeacherSummary(
            len(rows),
            len({trace.prompt_id for _, trace in rows}),
            tenths[0],
            tenths[-1],
            fmean(known) if known else None,
        )
    return summaries


def _best(
    traces: Sequence[Trace], one_teacher: bool, weights: Mapping[str, float] | None
) -> list[Trace]:
    """Return the best trace of each prompt, of all teachers or of the one whose turn it is."""
    kept, counts = [], Counter[str]()
    for group in group_by_prompt(traces).values():
        if one_teacher:
            names = sorted({t.teacher or "" for t in group})
            shares = {name: 1.0 for name in names} if weights is None else weights
            chosen = min(names, key=lambda name: (counts[name] + 1) / shares[name])
            counts[chosen] += 1
            group = [t for t in group if (t.teacher or "") == chosen]
        # `min` takes the first of equal ones
        kept.append(min(zip(_order(group), group, strict=True), key=lambda pair: pair[0])[1])
    return kept


def _order(group: Sequence[Trace]) -> list[tuple[Any, ...]]:
    """Return what the traces of a prompt are sorted by, the best first."""
    compared = all(trace.perplexity is not None for trace in group)
    for trace in group:
        if trace.score is None:
            raise ValueError(
                f"a trace of prompt {trace.prompt_id!r} has no score, by which the best one is"
                " chosen; verify traces (kdlight traces verify), or keep all with per_prompt='all'"
            )
    return [
        (-(trace.score or 0.0), trace.perplexity if compared else 0.0, size)
        for trace, size in zip(group, lengths(group), strict=True)
    ]
