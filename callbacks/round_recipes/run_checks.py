"""Checks of a run with rounds, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from kdlight.callbacks.round_recipes.recipe import RoundRecipe
from kdlight.data.traces.module import TracesDataModule
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.verification.verifiers import exact, math, number
from kdlight.modules.base import DistillationBase
from kdlight.teachers import Teacher


def check_data(data: Any) -> TracesDataModule:
    """Return a data module to which traces can be added.

    Raises:
        ValueError: It has no traces, or would not use those that are added.

    Example:
        >>> check_data(None)
        Traceback (most recent call last):
        ValueError: Rounds adds traces to a kdlight.data.TracesDataModule, but the data are...
    """
    if not isinstance(data, TracesDataModule):
        found = "no data module" if data is None else f"a {type(data).__name__}"
        raise ValueError(
            f"Rounds adds traces to a kdlight.data.TracesDataModule, but the data are {found}; use"
            " one, or remove the callback"
        )
    wrong = {
        "kind": (data.kind, "positives", "all traces that are added are chosen ones"),
        "per_prompt": (data.per_prompt, None, "else a prompt keeps its first traces only"),
        "curriculum": (data.curriculum, None, "it knows the lengths of the first epoch only"),
    }
    for name, (value, needed, reason) in wrong.items():
        if value != needed:
            raise ValueError(
                f"Rounds needs a data module with {name} {needed!r}, got {value!r}: {reason}"
            )
    return data


def check_reloads(trainer: Trainer) -> None:
    """Raise an error for a run whose loaders would not get what is added.

    Raises:
        ValueError: They are not made anew in every epoch.
    """
    every: Any = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
    if every != 1:
        raise ValueError(
            "Rounds needs loaders that are made anew in every epoch, or none would have the new"
            f" traces; set Trainer(reload_dataloaders_every_n_epochs=1), got {every}"
        )


def check_epochs(trainer: Trainer, every_n_epochs: int) -> None:
    """Raise an error for a run that ends before the first round, or with it.

    Raises:
        ValueError: There are too few epochs.
    """
    epochs = 0 if getattr(trainer, "fast_dev_run", False) else trainer.max_epochs or 0
    if 0 < epochs <= every_n_epochs:
        raise ValueError(
            f"every_n_epochs is {every_n_epochs}, but the run has {epochs} epochs, so that no epoch"
            " would follow a round; set max_epochs higher"
        )


def check_teacher(module: DistillationBase) -> None:
    """Raise an error for a teacher that has no logits for new text.

    Raises:
        ValueError: The teacher is cached.
    """
    teacher = module.teacher
    if isinstance(teacher, Teacher) and not teacher.networks():
        raise ValueError(
            "Rounds needs the teacher's logits for text that is made during training, but a"
            f" {type(teacher).__name__} has no network to compute them; use a live teacher, or none"
            " with kdlight.objectives.CrossEntropy"
        )


def check_answers(recipe: RoundRecipe, prompts: Sequence[Trace]) -> None:
    """Raise an error for a prompt without the answer that a verifier of kdlight compares with.

    Raises:
        ValueError: There is one.
    """
    known = (number, exact, math)
    names = [name for name, value in vars(recipe).items() if any(value is each for each in known)]
    missing = [prompt.prompt_id for prompt in prompts if prompt.answer is None]
    if names and missing:
        raise ValueError(
            f"{names[0]} of {type(recipe).__name__} compares responses with the answers of the"
            f" prompts, but prompt {missing[0]!r} has none; set `answer`, or give a function of"
            " your own"
        )
