"""The teacher of a module as a network that answers prompts."""

from __future__ import annotations

from typing import Any

from kdlight.modules.base import DistillationBase


def check_answers(recipe: str, module: DistillationBase) -> None:
    """Raise an error for a module whose teacher cannot answer new prompts.

    Args:
        recipe: name of the recipe that needs it.
        module: the module.

    Raises:
        ValueError: There is no teacher; or it has other tokens, or is cached, or several, or
            sharded, or its network does not generate.
    """
    teacher: Any = module.teacher
    how = "give a function that answers, `answer`, or a live teacher"
    if teacher is None:
        raise ValueError(
            f"{recipe} needs a teacher that answers new prompts, and there is none; {how}"
        )
    if teacher.translates_tokens:
        raise ValueError(
            f"{recipe} needs a teacher that reads the tokens of the student, but a"
            f" {type(teacher).__name__} has a tokenizer of its own; give a function that answers,"
            " `answer`"
        )
    networks = teacher.networks()
    if not networks:
        raise ValueError(
            f"{recipe} needs the teacher's answers to new prompts, but a {type(teacher).__name__}"
            f" has no network to generate them; {how}"
        )
    if len(networks) > 1:
        raise ValueError(f"{recipe} needs one teacher that answers, got {len(networks)}; {how}")
    if not hasattr(networks[0], "generate"):
        name = type(networks[0]).__name__
        raise ValueError(
            f"{recipe} needs a teacher that generates text, and {name} does not; use a"
            " kdlight.CausalLM, or give a function that answers, `answer`"
        )
    if getattr(teacher, "is_sharded", False):
        raise ValueError(
            f"{recipe} needs a teacher that is whole on every rank, but it has shard=True; leave"
            " this out, or give a function that answers, `answer`"
        )


def teacher_network(module: DistillationBase) -> Any:
    """Return the network that answers, after `check_answers`."""
    teacher: Any = module.teacher
    (network,) = teacher.networks()
    return network
