"""Traces encoded to token ids within length limits, with counts of those dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from kdlight.checks import check_integer
from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.prompt_groups import is_correct
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trajectory import TurnTokens, tokenize_turns

LossOn: TypeAlias = Literal["response", "assistant"]
LOSS_ON = ("response", "assistant")
KEPT = "kept"
"""The outcome of a trace that is used whole."""


@dataclass(frozen=True)
class Limits:
    """Maximal lengths of traces in tokens; None for no limit.

    A trace with a longer prompt or response is dropped. ``length`` limits the sum of both: a chosen
    response is cut at its end to fit; a rejected response that does not fit is dropped, since its
    error may be in the part that would be cut. With ``loss_on="assistant"`` the response is all
    that follows the first prompt, results of tools included.
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
        turns: start and stop of each scored part of ``completion``; None for all of it.
    """

    prompt_id: str
    prompt: list[int]
    completion: list[int]
    rejected: bool
    ended: bool = True
    turns: tuple[tuple[int, int], ...] | None = None

    @property
    def scored(self) -> tuple[tuple[int, int], ...]:
        """Start and stop of each scored part of the completion."""
        return ((0, len(self.completion)),) if self.turns is None else self.turns


def encode(
    traces: Sequence[Trace],
    tokenizer: Any,
    *,
    threshold: float,
    chat: bool,
    limits: Limits,
    loss_on: LossOn = "response",
) -> tuple[list[EncodedTrace], Counter[str]]:
    """Encode the traces that fit, in order, and count the outcomes.

    Args:
        traces: traces; those with a score below ``threshold`` are rejected.
        tokenizer: a Hugging Face tokenizer.
        threshold: the smallest score of a chosen trace; a trace without a score is chosen.
        chat: whether to apply the chat template of the tokenizer.
        limits: maximal lengths.
        loss_on: ``"response"`` scores the response only, ``"assistant"`` also the turns of the
            assistant in the prompt.

    Returns:
        The encoded traces, and the number of traces by outcome, such as ``"prompt too long"``.

    Raises:
        ValueError: If the chat template does not write a trace whole, with its prompt id.
    """
    kept, outcomes = [], Counter[str]()
    is_hidden = rank_zero_only.rank != 0  # pyright: ignore[reportFunctionMemberAccess]
    for trace in tqdm(traces, desc="encoding traces", delay=2, leave=False, disable=is_hidden):
        prompt, completion, turns = _tokens(trace, tokenizer, loss_on, chat=chat)
        rejected = trace.score is not None and not is_correct(trace, threshold)
        outcome, completion = _fit(len(prompt), completion, limits, rejected=rejected)
        outcomes[outcome] += 1
        if completion:
            ended = trace.finished is not False and outcome == KEPT
            scored = None
            if loss_on == "assistant":
                scored = _cut(turns, len(completion))
                completion = completion[: scored[-1][1]]  # nothing behind it is scored
            kept.append(EncodedTrace(trace.prompt_id, prompt, completion, rejected, ended, scored))
    return kept, outcomes


def _tokens(trace: Trace, tokenizer: Any, loss_on: LossOn, *, chat: bool) -> TurnTokens:
    try:
        if loss_on == "assistant":
            return tokenize_turns(trace, tokenizer, chat=chat)
        return TurnTokens(*tokenize(trace, tokenizer, chat=chat), [])
    except ValueError as error:
        raise ValueError(f"a trace of prompt {trace.prompt_id!r}: {error}") from error


def _cut(turns: Sequence[tuple[int, int]], length: int) -> tuple[tuple[int, int], ...]:
    """Return the turns within the first tokens of a completion."""
    return tuple((start, min(stop, length)) for start, stop in turns if start < length)


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
