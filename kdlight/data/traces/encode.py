"""From traces to token ids that fit, and what was dropped on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.record import Trace


@dataclass(frozen=True)
class Limits:
    """How long traces may be, in tokens; None where they may be as long as they are.

    A prompt or a response that is too long is dropped. ``length`` is what both may have together:
    a right response is cut at its end to fit, a wrong one that would have to be cut is dropped,
    since its end is where its error is.
    """

    prompt: int | None = None
    completion: int | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "length"):
            limit = getattr(self, name)
            if limit is not None and limit < 1 + (name == "length"):
                raise ValueError(
                    f"max_{name} must be at least {1 + (name == 'length')}, got {limit}"
                )


@dataclass(frozen=True)
class Encoded:
    """Token ids of one trace, and on which side it stands."""

    prompt_id: str
    prompt: list[int]
    completion: list[int]
    rejected: bool


def encode(
    traces: Sequence[Trace],
    tokenizer: Any,
    *,
    threshold: float,
    chat: bool,
    limits: Limits,
) -> tuple[list[Encoded], Counter[str]]:
    """Ids of the traces that fit, in order, and how many there were of each fate.

    Args:
        traces: right ones have a score of at least ``threshold`` or none at all.
        tokenizer: a Hugging Face tokenizer.
        threshold: the least score of a right trace.
        chat: put prompts into the tokenizer's chat template.
        limits: how long they may be.
    """
    kept, fates = [], Counter[str]()
    hidden = rank_zero_only.rank != 0  # pyright: ignore[reportFunctionMemberAccess]
    for trace in tqdm(traces, desc="encoding traces", delay=2, leave=False, disable=hidden):
        prompt, completion = tokenize(trace, tokenizer, chat=chat)
        rejected = trace.score is not None and trace.score < threshold
        fate, completion = _fit(len(prompt), completion, limits, rejected=rejected)
        fates[fate] += 1
        if completion:
            kept.append(Encoded(trace.prompt_id, prompt, completion, rejected))
    return kept, fates


def _fit(
    prompt: int, completion: list[int], limits: Limits, *, rejected: bool
) -> tuple[str, list[int]]:
    """What becomes of a trace, and what is left of its completion: nothing if it is dropped."""
    if not prompt:
        return "empty prompt", []
    if not completion:
        return "empty response", []
    if limits.prompt is not None and prompt > limits.prompt:
        return "prompt too long", []
    if limits.completion is not None and len(completion) > limits.completion:
        return "response too long", []
    if limits.length is None or prompt + len(completion) <= limits.length:
        return "kept", completion
    if prompt >= limits.length:
        return "prompt too long", []
    if rejected:
        return "rejected and would be cut", []
    return "kept, cut at the end", completion[: limits.length - prompt]
