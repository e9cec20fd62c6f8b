"""Responses cut after the first steps that suffice for the answer."""

from __future__ import annotations

from collections.abc import Iterable

from kdlight.checks import check_integer
from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.splitting import STEP_END, check_split, split_steps
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


def shortest_prefix(
    traces: Iterable[Trace],
    answer: TextFunction | str,
    verify: Verifier | str,
    *,
    split: str = STEP_END,
    min_steps: int = 1,
    threshold: float = CORRECT,
) -> Selection:
    r"""Cut each response after the first steps from which the right answer can be given.

    Dai et al., "S-GRPO", 2025, and Lin et al., "TrimR", 2025, end reasoning as soon as it suffices,
    while a model is trained with rewards or generates. Here the responses to fine-tune on are cut,
    which is a choice of kdlight.

    Args:
        traces: traces; scores are not needed, and a correct shorter response replaces an incorrect
            one. A response that is replaced has a new ``score``, is finished, and has no
            ``n_tokens`` and no ``perplexity``.
        answer: from a `Trace` and the first steps of its response to the text that follows them
            and ends the response, such as the end of the reasoning and an answer that a model
            gives; or to None. A function, ``module:function`` or ``file.py:function``.
        verify: computes the score of a trace; a function or its name, such as ``"number"``.
        split: the text that ends a step.
        min_steps: smallest number of steps to keep; 0 for an answer without any.
        threshold: the smallest score of a correct trace.

    Returns:
        As many traces as are given; the notes tell how many were cut. A response stays as it is if
        no correct one is shorter, in characters.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there is no such function, a function fails or returns no text, ``split`` is
            empty, ``min_steps`` is below 0, or a response has reasoning or tool calls in fields
            beside its text.

    Example:
        >>> traces = [Trace("1 + 1 =", "One, two.\n\nOr is it?\n\nIt is.\n\nSo it is 2", answer=2)]
        >>> shortest_prefix(traces, lambda trace, start: "It is 2", "number")[0].response
        'One, two.\n\nIt is 2'
    """
    check_split(split)
    check_integer("min_steps", min_steps, 0)
    check_number("threshold", threshold)
    answering = find_text_function("answer", answer, does="of a Trace and a text")
    verifier = find_verify(verify)

    def revise(trace: Trace) -> tuple[Trace, str]:
        steps = split_steps(trace.response, split)
        for number in range(min_steps, len(steps)):
            start = "".join(steps[:number])
            response = start + text_of("answer", answering, trace, start)
            if len(start) < len(response) < len(trace.response):
                shorter = if_correct(trace, response, verifier, threshold=threshold)
                if shorter is not None:
                    return shorter, "cut"
        return trace, "kept, no correct shorter response"

    return revised("shortest_prefix", traces, revise, doing="cutting traces")
