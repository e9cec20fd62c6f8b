"""Responses replaced by shorter ones that are still correct."""

from __future__ import annotations

from collections.abc import Iterable

from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.user_texts import (
    TextFunction,
    find_text_function,
    find_verify,
    if_correct,
    revised,
    text_of,
)
from kdlight.data.traces.prompt_groups import CORRECT
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

    def revise(trace: Trace) -> tuple[Trace, str]:
        response = text_of("fn", rewriter, trace)
        if not response.strip():  # which is no training sample
            return trace, "kept, no other response"
        if len(response) >= len(trace.response):
            return trace, "kept, not shorter"
        better = if_correct(trace, response, verifier, threshold=threshold)
        if better is None:
            return trace, "kept, the other response is not correct"
        return better, "rewritten"

    return revised("rewrite", traces, revise, doing="rewriting traces")
