"""Traces with lengths, perplexity and difficulty, written to a file; a run can be resumed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdlight.checks import check_choice, check_integer
from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.scoring.filled_file import write_filled
from kdlight.data.traces.scoring.fillers import (
    Filler,
    JudgeFiller,
    PassRateFiller,
    PerplexityFiller,
    TokensFiller,
)
from kdlight.data.traces.scoring.judge import INSTRUCTION
from kdlight.data.traces.scoring.report import Report
from kdlight.data.traces.tokenizer_hash import hash_tokenizer
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.weights import hash_weights

DIFFICULTIES = ("pass_rate", "judge")
"""What can fill the difficulty of traces."""

BATCHES = 8
"""Number of batches of the model that are read, sorted by length and written at once."""


def score_traces(
    traces: Iterable[Trace],
    output: str | Path,
    *,
    model: Any = None,
    tokenizer: Any = None,
    tokens: bool = False,
    perplexity: bool = False,
    difficulty: str | None = None,
    levels: int | None = None,
    threshold: float = CORRECT,
    instruction: str = INSTRUCTION,
    chat: bool = False,
    batch_size: int = 8,
    name: str | None = None,
) -> Report:
    """Fill fields of traces, and write them to ``output`` as JSON lines, in the same order.

    A value that a field has already is replaced, and removed where there is no new one. Other
    fields stay. An interrupted run continues when it is started again with the same traces and
    settings; the file then has the same bytes as that of a run without interruption. Only one
    process at a time can write a file.

    Args:
        traces: traces, see `kdlight.data.read_traces`.
        output: path of the file.
        model: a Hugging Face causal language model, or a `kdlight.CausalLM`, for ``perplexity``
            and for ``difficulty="judge"``.
        tokenizer: the tokenizer of the model, which ``tokens`` needs, too.
        tokens: fill ``n_tokens``, see `count_tokens`.
        perplexity: fill ``perplexity``, see `perplexities`.
        difficulty: fill ``difficulty``: ``"pass_rate"`` by scores, see `pass_rate_difficulty`, or
            ``"judge"`` by the model, see `judge_difficulty`.
        levels: number of levels of difficulty; None for a number from 0 to 1.
        threshold: the smallest score of a correct trace, for ``"pass_rate"``.
        instruction: what the judge is told.
        chat: whether to apply the chat template of the tokenizer.
        batch_size: number of traces that the model reads at once.
        name: name of the model, to be told where its weights differ from those of an earlier run.
            Weights, dtype and tokenizer are compared, too, whatever the name.

    Returns:
        What was filled, as an object that prints in one line.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there are no traces, nothing is to be filled, or what fills it is missing; a
            number is out of range; ``output`` was started with other traces or settings, or is
            written by another process.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> traces = [Trace("1 + 1 =", "2", score=1), Trace("1 + 1 =", "3", score=0)]
        >>> with TemporaryDirectory() as folder:
        ...     print(score_traces(traces, f"{folder}/traces.jsonl", difficulty="pass_rate"))
        2 traces, difficulty of 2
    """
    check_integer("batch_size", batch_size, 1)
    check_wanted(tokens=tokens, perplexity=perplexity, difficulty=difficulty, levels=levels)
    _check_unused(difficulty, threshold, instruction)
    traces = list(traces)
    if not traces:
        raise ValueError("traces must hold at least one trace, got none")
    reads: dict[str, Any] = {"chat": chat, "batch_size": batch_size}
    fillers: list[Filler] = []
    if tokens:
        _check_given(tokenizer=tokenizer)
        fillers.append(TokensFiller(tokenizer, chat=chat))
    if perplexity:
        _check_given(model=model, tokenizer=tokenizer)
        fillers.append(PerplexityFiller(model, tokenizer, **reads))
    if difficulty == "pass_rate":
        fillers.append(PassRateFiller(traces, threshold=threshold, levels=levels))
    if difficulty == "judge":
        _check_given(model=model, tokenizer=tokenizer)
        asks = {**reads, "instruction": instruction, "levels": levels}
        fillers.append(JudgeFiller(model, tokenizer, **asks))
    settings = {
        "tokens": tokens,
        "perplexity": perplexity,
        "difficulty": difficulty,
        "levels": levels,
        "threshold": threshold if difficulty == "pass_rate" else None,
        "instruction": instruction if difficulty == "judge" else None,
        "chat": chat,
        "model": name,
        "dtype": None if model is None else str(next(model.parameters()).dtype),
        "weights": None if model is None else hash_weights(model),
        "tokenizer": None if tokenizer is None else hash_tokenizer(tokenizer),
        "batch_size of the model": batch_size,
    }
    return write_filled(
        traces, Path(output), fillers, settings=settings, batch_size=BATCHES * batch_size
    )


def check_wanted(
    *, tokens: bool, perplexity: bool, difficulty: str | None, levels: int | None
) -> None:
    """Raise an error if nothing is to be filled, or ``difficulty`` or ``levels`` mean nothing.

    Raises:
        ValueError: If so.
    """
    if difficulty is not None:
        check_choice("difficulty", difficulty, DIFFICULTIES)
    elif levels is not None:
        raise ValueError(f"levels={levels} are of difficulty, which is not filled; set difficulty")
    if not (tokens or perplexity or difficulty):
        raise ValueError("nothing to fill; set tokens, perplexity or difficulty")


def _check_unused(difficulty: str | None, threshold: float, instruction: str) -> None:
    if difficulty != "pass_rate" and threshold != CORRECT:
        raise ValueError(f"threshold={threshold} has no effect without difficulty='pass_rate'")
    if difficulty != "judge" and instruction != INSTRUCTION:
        raise ValueError("instruction has no effect without difficulty='judge'")


def _check_given(**objects: Any) -> None:
    for name, value in objects.items():
        if value is None:
            raise ValueError(f"{name} is needed to fill these fields, got None")
