"""What comes before and after a recipe: the prompts of a round, and which of its traces are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from kdlight.callbacks.generation.checks import datamodule_of
from kdlight.callbacks.round_recipes.first_rank import from_first_rank
from kdlight.callbacks.round_recipes.origins import (
    ORIGIN,
    as_prompt,
    content,
    prompt_content,
    unique,
)
from kdlight.callbacks.round_recipes.round_folder import open_folder
from kdlight.callbacks.round_recipes.weights_hash import hash_on_ranks
from kdlight.callbacks.round_recipes.work import RoundWork
from kdlight.data.splits import shuffle
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.module import TracesDataModule
from kdlight.data.traces.trace import Trace
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase


def all_prompts(traces: Sequence[Trace]) -> list[Trace]:
    """Return the prompts of traces, each once.

    Example:
        >>> traces = [Trace("1 + 1 =", "2"), Trace("1 + 1 =", "3"), Trace("1 + 2 =", "3")]
        >>> [prompt.prompt for prompt in all_prompts(traces)]
        ['1 + 1 =', '1 + 2 =']
    """
    return unique([as_prompt(trace) for trace in traces], set(), prompt_content)


def prepare_work(
    trainer: Trainer,
    module: DistillationBase,
    *,
    folder: Path,
    number: int,
    pool: Sequence[Trace],
    prompts: Sequence[Trace],
    max_prompts: int | None,
    sampling: Sampling,
    batch_size: int,
    settings: Mapping[str, Any],
) -> RoundWork:
    """Return what a recipe works with; its folder holds what was made of the same round before.

    Args:
        trainer: the trainer, with a `kdlight.data.TracesDataModule`.
        module: the module.
        folder: the folder of the run.
        number: number of the round, from 1.
        pool: the traces of the rounds before.
        prompts: the prompts.
        max_prompts: number of prompts that are drawn of them; None for all.
        sampling: how the student generates.
        batch_size: number of answers generated at once.
        settings: those of the recipe.
    """
    data: TracesDataModule = datamodule_of(trainer)
    known = [*data.traces.training, *data.traces.validation, *pool]
    work = RoundWork(
        trainer=trainer,
        module=module,
        tokenizer=data.tokenizer,
        folder=folder / f"round_{number}",
        number=number,
        prompts=list(prompts),
        taken={content(trace) for trace in known},
        taken_prompts={prompt_content(trace) for trace in known},
        sampling=sampling,
        batch_size=batch_size,
        chat=uses_chat(data.tokenizer, data.chat),
    )
    work.prompts = [each for each in work.prompts if work.can_answer(each)]
    if max_prompts is not None:
        work.prompts = shuffle(work.prompts, seed=work.seed("prompts"))[:max_prompts]
    whole = {
        **settings,
        "sampling": vars(sampling),
        "batch_size": batch_size,
        "weights": hash_on_ranks(trainer, module.student_network()),
    }
    from_first_rank(trainer, lambda: open_folder(work.folder, work.prompts, whole))
    return work


def new_traces(made: Sequence[Trace], work: RoundWork, data: TracesDataModule) -> list[Trace]:
    """Return the traces of a round that can be trained on.

    Left out are those that are there already, those of prompts that are validated on, and those
    that are longer than the context of student or teacher, or than the data module allows.

    Raises:
        ValueError: A trace without an origin.
    """
    validated = {prompt_content(trace) for trace in data.traces.validation}
    found = [each for each in unique(list(made), work.taken) if work.fits(each)]
    new = [
        each for each in found if prompt_content(each) not in validated and data.can_encode(each)
    ]
    for each in new:
        if ORIGIN not in each.meta:
            raise ValueError(
                "a recipe must return traces with their origin, but one to prompt"
                f" {each.prompt_id!r} has none; use"
                " kdlight.callbacks.round_recipes.origins.with_origin"
            )
    return new
