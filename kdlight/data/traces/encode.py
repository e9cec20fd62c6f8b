"""Traces encoded to token ids within length limits, with counts of those dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from kdlight.checks import check_integer
from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.prompt_groups import is_correct
from kdlight.data.traces.trace import Trace

KEPT = "kept"
"""The outcome of a trace that is used whole."""


@dataclass(frozen=True)
class Limits:
    """Maximal lengths of traces in tokens; None for no limit.

    A trace with a longer prompt or response is dropped. ``length`` limits the sum of both: a chosen
    response is cut at its end to fit; a rejected response that does not fit is dropped, since its
    error may be in the part that would be cut.
    """

    prompt: int | None = None
    completion: int | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "length"):
            limit = getattr(self, name)
            if limit is not None:
                check_integer(f"max_{name}", limit, 2 if name == "length" else 1)


@dataclass(frozen=True)
class EncodedTrace:
    """Token ids of one trace.

    Attributes:
        prompt_id: id of the prompt.
        prompt: tokens of the prompt.
        completion: tokens of the response.
        rejected: whether the response is rejected.
        ended: whether the last token of the response is an end token.
    """

    prompt_id: str
    prompt: list[int]
    completion: list[int]
    rejected: bool
    ended: bool = True


def encode(
    traces: Sequence[Trace],
    tokenizer: Any,
    *,
    threshold: float,
    chat: bool,
    limits: Limits,
) -> tuple[list[EncodedTrace], Counter[str]]:
    """Encode the traces that fit, in order, and count the outcomes.

    Args:
        traces: traces; those with a score below ``threshold`` are rejected.
        tokenizer: a Hugging Face tokenizer.
        threshold: the smallest score of a chosen trace; a trace without a score is chosen.
        chat: whether to apply the chat template of the tokenizer.
        limits: maximal lengths.

    Returns:
        The encoded traces, and the number of traces by outcome, such as ``"prompt too long"``.
    """
    kept, outcomes = [], Counter[str]()
    is_hidden = rank_zero_only.rank != 0  # pyright: ignore[reportFunctionMemberAccess]
    for trace in tqdm(traces, desc="encoding traces", delay=2, leave=False, disable=is_hidden):
        prompt, completion = tokenize(trace, tokenizer, chat=chat)
        rejected = trace.score is not None and not is_correct(trace, threshold)
        outcome, completion = _fit(len(prompt), completion, limits, rejected=rejected)
        outcomes[outcome] += 1
        if completion:
            ended = trace.finished is not False and outcome == KEPT
            kept.append(EncodedTrace(trace.prompt_id, prompt, completion, rejected, ended))
    return kept, outcomes


def _fit(
    prompt_length: int, completion: list[int], limits: Limits, *, rejected: bool
) -> tuple[str, list[int]]:
    """Return the outcome of a trace and the completion to use, empty if the trace is dropped."""
    if not prompt_length:
        return "empty prompt", []
    if not completion:
        return "empty response", []
    if limits.prompt is not None and prompt_length > limits.prompt:
        return "prompt too long", []
    if limits.completion is not None and len(completion) > limits.completion:
        return "response too long", []
    if limits.length is None or prompt_length + len(completion) <= limits.length:
        return KEPT, completion
    if prompt_length >= limits.length:
        return "prompt too long", []
    if rejected:
        return "rejected and would be cut", []
    return "kept, cut at the end", completion[: limits.length - prompt_length]
