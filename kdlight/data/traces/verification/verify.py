"""Traces divided into correct, incorrect and unfinished ones by a verifier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

from tqdm import tqdm

from kdlight.checks import check_finite
from kdlight.data.traces.prompt_groups import CORRECT, is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.verification.verifiers import Verifier


def verify_traces(
    traces: Iterable[Trace],
    verifier: Verifier,
    *,
    threshold: float = CORRECT,
    keep_unfinished: bool = False,
) -> tuple[list[Trace], list[Trace], list[Trace]]:
    """Return correct traces, incorrect traces, and unfinished traces, each with its score.

    An unfinished response is not correct. It is not a good example of an incorrect response either,
    since its end is unknown. So unfinished traces are returned separately, unless
    ``keep_unfinished`` counts them as incorrect.

    Args:
        traces: traces.
        verifier: computes the score of a trace.
        threshold: the smallest score of a correct trace.
        keep_unfinished: whether unfinished traces count as incorrect.

    Raises:
        ValueError: If the threshold is not finite, or the verifier fails on a trace or returns
            anything but a finite number.

    Example:
        >>> from kdlight.data.traces import exact
        >>> traces = [Trace("1 + 1 =", text, answer="2") for text in ("2", "3")]
        >>> correct, incorrect, unfinished = verify_traces(traces, exact)
        >>> [trace.response for trace in correct], [trace.score for trace in incorrect]
        (['2'], [0.0])
    """
    check_finite("threshold", threshold)
    correct, incorrect, unfinished = [], [], []
    for trace in tqdm(traces, desc="verifying traces", delay=2):
        if trace.finished is False:
            (incorrect if keep_unfinished else unfinished).append(replace(trace, score=0.0))
            continue
        scored = replace(trace, score=_score(trace, verifier))
        (correct if is_correct(scored, threshold) else incorrect).append(scored)
    return correct, incorrect, unfinished


def _score(trace: Trace, verifier: Verifier) -> float:
    place = f"on a trace of prompt {trace.prompt_id!r}"
    try:
        value = verifier(trace)
    except Exception as error:  # the function of a user can fail in any way
        raise ValueError(f"the verifier failed {place}: {type(error).__name__}: {error}") from error
    try:
        score = float("nan") if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        score = float("nan")
    if not isfinite(score):
        raise ValueError(
            f"the verifier must return a finite number or a bool, but returned {value!r} {place}"
        )
    return score
