"""Responses in which an earlier thought is continued to the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdlight.data.traces.operators.selection import Selection
from kdlight.data.traces.operators.splitting import STEP_END, check_split, split_thoughts
from kdlight.data.traces.operators.user_texts import (
    TextFunction,
    find_text_function,
    find_verify,
    if_correct,
    revised,
    text_of,
)
from kdlight.data.traces.prompt_groups import CORRECT, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number, check_texts
from kdlight.data.traces.verification.verifiers import Verifier

TRANSITIONS = (
    "alternatively",
    "another approach",
    "another way",
    "but wait",
    "hold on",
    "let me try",
    "on second thought",
    "wait",
)
"""Words with which a step leaves the thought before it."""


def revise_thoughts(
    traces: Iterable[Trace],
    continue_fn: TextFunction | str,
    verify: Verifier | str,
    *,
    words: Sequence[str] = TRANSITIONS,
    split: str = STEP_END,
    threshold: float = CORRECT,
) -> Selection:
    r"""Continue earlier thoughts of a correct response, and keep the shortest correct result.

    Lu et al., "Retro-Search", 2025: a model often leaves a thought that would have led to the
    answer. Transition words split a response into thoughts, which are made of steps; each thought
    but the last is continued, and a correct response that is shorter replaces the old one. Only
    correct traces are revised. The list of words, that they must begin a step, and that lengths are
    those in characters are choices of kdlight.

    Args:
        traces: traces with scores. A response that is replaced has a new ``score``, is finished,
            and has no ``n_tokens`` and no ``perplexity``.
        continue_fn: from a `Trace` and the text of its response up to the end of a thought to what
            follows this text in a complete response, or to None. It should not begin with one of
            ``words``. A function, ``module:function`` or ``file.py:function``.
        verify: computes the score of a trace; a function or its name, such as ``"number"``.
        words: the first words of a step that begins a thought.
        split: the text that ends a step.
        threshold: the smallest score of a correct trace.

    Returns:
        As many traces as are given; the notes tell how many were revised, and why others were not.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there is no such function, a function fails or returns no text, ``words`` or
            ``split`` are empty, a trace has no score, or a response has reasoning or tool calls in
            fields beside its text.

    Example:
        >>> text = "1 + 1 is 2.\n\nWait, is it?\n\nYes, it is 2"
        >>> traces = [Trace("1 + 1 =", text, answer=2, score=1)]
        >>> revise_thoughts(traces, lambda trace, start: "So 2", "number")[0].response
        '1 + 1 is 2.\n\nSo 2'
    """
    check_words(words)
    check_split(split)
    check_number("threshold", threshold)
    continuing = find_text_function("continue_fn", continue_fn, does="of a Trace and a text")
    verifier = find_verify(verify)

    def revise(trace: Trace) -> tuple[Trace, str]:
        thoughts = split_thoughts(trace.response, words, split)
        if not is_correct(trace, threshold):
            return trace, "kept, not correct"
        if len(thoughts) < 2:
            return trace, "kept, one thought"
        best, start = trace, ""
        for thought in thoughts[:-1]:
            start += thought
            response = start + text_of("continue_fn", continuing, trace, start)
            if len(start) < len(response) < len(best.response):
                best = if_correct(trace, response, verifier, threshold=threshold) or best
        return best, "kept, no shorter correct response" if best is trace else "revised"

    return revised("revise_thoughts", traces, revise, doing="revising traces")


def check_words(words: Sequence[str]) -> None:
    """Raise an error for what is no list of words.

    Raises:
        TypeError: If it is no list of texts.
        ValueError: If the list or a word is empty.

    Example:
        >>> check_words([])
        Traceback (most recent call last):
        ValueError: words must hold at least one word, got none
    """
    check_texts("words", words, one="word")
    for word in words:
        if not word.strip() or word != word.strip():
            raise ValueError(f"words must be without spaces around them, got {word!r}")
