"""Drop responses that repeat themselves, are too long, or are unlikely for the student."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from kdlight.checks import check_integer, check_positive
from kdlight.data.traces.messages import written_text
from kdlight.data.traces.operators.requirements import check_teachers
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.words import WORD
from kdlight.data.traces.prompt_groups import in_order
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number


def quality_filter(
    traces: Iterable[Trace],
    *,
    ngram: int = 20,
    repeats: int = 20,
    max_length: int | None = None,
    max_perplexity: float | Mapping[str, float] | None = None,
) -> Selection:
    """Drop traces that repeat themselves, are too long, or have a high perplexity.

    Tian et al., "Not All Correct Answers Are Equal", 2025, drop a response in which a passage of 20
    words occurs more than 20 times, and limit perplexities per teacher.

    Args:
        traces: traces; scores are not needed. Reasoning in a field is a part of the response.
        ngram: number of words in a repeated passage; marks count as words, and so does each
            character of Chinese, Japanese and other scripts without spaces.
        repeats: maximal number of occurrences of one passage.
        max_length: maximal number of tokens of a response.
        max_perplexity: maximal perplexity, one value or one per teacher; traces of other teachers
            are kept, and traces without a perplexity dropped, such as those that were too long for
            the model.

    Raises:
        TypeError: If a number is of another kind.
        ValueError: If a number is out of range, there is no such teacher, a trace has no
            ``n_tokens`` where ``max_length`` limits them, or no trace has a perplexity where
            ``max_perplexity`` does.

    Example:
        >>> traces = [Trace("a", "go on " * 50), Trace("a", "done")]
        >>> [trace.response for trace in quality_filter(traces, ngram=2)]
        ['done']
    """
    check_integer("ngram", ngram, 1)
    check_integer("repeats", repeats, 1)
    if max_length is not None:
        check_integer("max_length", max_length, 1)
    per_teacher = isinstance(max_perplexity, Mapping)
    limits = dict(max_perplexity) if isinstance(max_perplexity, Mapping) else {"": max_perplexity}
    for limit in limits.values():
        if limit is not None:
            check_number("max_perplexity", limit)
            check_positive("max_perplexity", limit)
    ordered = in_order(traces)
    if per_teacher:
        check_teachers("max_perplexity", limits, ordered)
    if ordered and max_perplexity is not None and all(t.perplexity is None for t in ordered):
        raise ValueError(
            "no trace has a perplexity, which max_perplexity limits; fill it with kdlight traces"
            " score"
        )
    kept, dropped = [], Counter[str]()
    for trace in ordered:
        limit = limits.get(trace.teacher or "" if per_teacher else "")
        if limit is not None and trace.perplexity is None:
            dropped["without perplexity"] += 1
        elif limit is not None and (trace.perplexity or 0) > limit:
            dropped["perplexity above max_perplexity"] += 1
        elif max_length is not None and _tokens(trace) > max_length:
            dropped["longer than max_length"] += 1
        elif _max_repeats(written_text(trace.response, trace.response_fields), ngram) > repeats:
            dropped["repeats itself"] += 1
        else:
            kept.append(trace)
    return Selection(kept, dropped=dropped)


def _tokens(trace: Trace) -> int:
    if trace.n_tokens is None:
        raise ValueError(
            f"a trace of prompt {trace.prompt_id!r} has no n_tokens, which max_length limits; fill"
            " it with kdlight traces score"
        )
    return trace.n_tokens


def _max_repeats(text: str, ngram: int) -> int:
    words = WORD.findall(text)
    # hashes: the passages themselves take ngram times the memory of the text
    passages = Counter(hash(tuple(words[i : i + ngram])) for i in range(len(words) - ngram + 1))
    return max(passages.values(), default=0)
