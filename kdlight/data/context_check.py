"""Check that sequences fit into the context of each network of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kdlight.models.context import context_length
from kdlight.teachers import remote_teachers


def check_contexts(
    trainer: Any,
    longest: Callable[[str], int],
    *,
    what: str,
    argument: str,
    limit: int | None = None,
) -> None:
    """Raise an error where sequences are longer than the context of a network of the run.

    Args:
        trainer: the trainer of the run, or None.
        longest: from the name of a network to the number of tokens of the longest sequence that it
            gets.
        what: what has this length, for the message.
        argument: the argument that limits it.
        limit: the value of the argument; a context that is not shorter needs no ``longest``.

    Raises:
        ValueError: If the context of the student, of a teacher or of a peer is shorter.

    Example:
        >>> check_contexts(None, lambda name: 100, what="the longest trace", argument="max_length")
    """
    for name, network in networks(trainer and trainer.lightning_module):
        context = context_length(network)
        if context is None or (limit is not None and limit <= context):
            continue
        length = longest(name)
        if length > context:
            raise ValueError(
                f"{what} has {length} tokens, but the context of the {name} is {context}; set"
                f" {argument} to {context} or less"
            )


def networks(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the networks that get the sequences of a batch, with their names.

    These are what a module trains, and the live networks of its teacher.

    Args:
        module: a LightningModule, or None.
    """
    if hasattr(module, "learners"):
        yield from ((name, network) for name, (network, _) in module.learners().items())
    elif hasattr(module, "student"):
        yield "student", module.student
    teacher: Any = getattr(module, "teacher", None)
    if hasattr(teacher, "networks"):
        yield from (("teacher", network) for network in teacher.networks())
        yield from (("served teacher", each) for each in remote_teachers(teacher))
