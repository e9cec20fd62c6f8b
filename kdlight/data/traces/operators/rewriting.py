"""Responses replaced by shorter ones that are still correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tqdm import tqdm

from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.user_texts import (
    TextFunction,
    check_whole,
    find_text_function,
    find_verify,
    if_correct,
    text_of,
)
from kdlight.data.traces.prompt_groups import CORRECT, in_order
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number
from kdlight.data.traces.verification.verifiers import Verifier

REWRITER = "from a Trace to a shorter response, or None"


def rewrite(
    traces: Iterable[Trace],
    fn: TextFunction | str,
    verify: Verifier | str,
    *,
    threshold: float = CORRECT,
) -> Selection:
    """Replace each response by a rewritten one if that is correct and shorter, else keep it.

    Wu et al., "Concise Reasoning, Big Gains", 2025, fine-tune on traces that the teacher rewrote to
    suit the difficulty of the prompt; Luo et al., "URSA", 2025, train on rewritten traces, too.
    That a rewritten response must be correct and shorter is a choice of kdlight. Lengths are those
    in characters.

    Args:
        traces: traces; scores are not needed, and a correct rewriting of an incorrect response is
            used. A response that is replaced has a new ``score``, is finished, and has no
            ``n_tokens`` and no ``perplexity``, which ``kdlight traces score`` fills.
        fn: the rewriter, from a `Trace` to a complete response, or to None for no other one; a
            function, ``module:function`` or ``file.py:function``.
        verify: computes the score of a trace; a function or its name, such as ``"number"``.
        threshold: the smallest score of a correct trace.

    Returns:
        As many traces as are given; the notes tell how many were rewritten, and why others were
        not.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there is no such function, a function fails or returns no text, or a response
            has reasoning or tool calls in fields beside its text.

    Example:
        >>> traces = [Trace("1 + 1 =", "Let us see. It is 2", answer=2)]
        >>> rewrite(traces, lambda trace: trace.response[-1:], "number")[0].response
        '2'
    """
    check_number("threshold", threshold)
    rewriter = find_text_function("fn", fn, does=REWRITER)
    verifier = find_verify(verify)
    kept, outcomes = [], Counter[str]()
    for trace in tqdm(in_order(traces), desc="rewriting traces", delay=2):
        check_whole("rewrite", trace)
        response = text_of("fn", rewriter, trace)
        shorter = len(response) < len(trace.response)
        # an empty response is no training sample
        better = (
            if_correct(trace, response, verifier, threshold=threshold)
            if response.strip() and shorter
            else None
        )
        outcomes[
            "rewritten"
            if better is not None
            else "kept, no other response"
            if not response.strip()
            else "kept, not shorter"
            if not shorter
            else "kept, the other response is not correct"
        ] += 1
        kept.append(trace if better is None else better)
    return Selection(in_order(kept), notes=counts(outcomes))


def counts(outcomes: Mapping[str, int]) -> list[str]:
    """Return the lines of a report that tell how often each outcome was found.

    Example:
        >>> counts({"rewritten": 2, "not rewritten": 0})
        ['rewritten: 2']
    """
    return [f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()) if count]
