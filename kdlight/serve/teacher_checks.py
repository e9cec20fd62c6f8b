"""Whether a teacher can be served: it runs networks on tokens alone, at temperature 1."""

from __future__ import annotations

from typing import Any

from kdlight.sources import LogitsSource, Projected
from kdlight.sources.tempered import depends_on_student
from kdlight.teachers import Teacher, as_teacher, frozen_teachers


def check_servable(teacher: Any) -> Teacher:
    """Return the teacher that ``teacher`` is or makes, if it answers without labels and student.

    Raises:
        ValueError: it is None, runs no network, has another temperature than 1, or needs labels or
            the student's logits.

    Example:
        >>> import torch
        >>> type(check_servable(torch.nn.Linear(2, 3))).__name__
        'FrozenTeacher'
    """
    wrapped = as_teacher(teacher)
    if wrapped is None:
        raise ValueError("there is no teacher to serve: the config has teacher: null")
    name, live = type(wrapped).__name__, frozen_teachers(wrapped)
    if not live:
        raise ValueError(f"only a teacher that runs a network can be served, got a {name}")
    temperatures = [each.temperature for each in live if each.temperature != 1]
    if temperatures:
        raise ValueError(
            f"a server returns logits at temperature 1, got a teacher of temperature"
            f" {temperatures[0]}; set the temperature of the RemoteTeacher instead"
        )
    if wrapped.is_sharded:
        raise ValueError(
            "a server runs a teacher in one process, which cannot shard it; set shard=False"
        )
    if wrapped.needs_student:
        raise ValueError(
            f"a {name} answers from the student's logits, which a server does not have; serve the"
            " teacher within it, and query that selectively in the fit"
        )
    if wrapped.needs_labels:
        raise ValueError(
            f"a {name} with these options reads the labels, which a server does not get; serve its"
            " teachers one by one, and combine them in the fit"
        )
    return wrapped


def check_answer(source: LogitsSource, name: str, length: int) -> None:
    """Raise a ValueError for logits that are not one row of the vocabulary a token.

    Example:
        >>> import torch
        >>> from kdlight import Dense
        >>> check_answer(Dense(torch.zeros(1, 3, 5)), "a model", 3)
    """
    if depends_on_student(source):
        raise ValueError(
            f"{name} knows a part of its logits only, such as a cached teacher; serve teachers that"
            " run a network"
        )
    if tuple(source.shape[:-1]) != (1, length):
        raise ValueError(
            f"{name} returns logits of shape {tuple(source.shape)} for {length} tokens; only a"
            " teacher with logits (B, T, V) at every token can be served"
        )


def check_states(source: LogitsSource, name: str) -> Projected:
    """Return ``source``, if it is hidden states and an output head.

    Raises:
        ValueError: it is something else.

    Example:
        >>> import torch
        >>> source = Projected(torch.zeros(1, 2, 4), torch.nn.Linear(4, 5))
        >>> check_states(source, "a model") is source
        True
    """
    if isinstance(source, Projected):
        return source
    raise ValueError(
        f"states needs a teacher whose logits are an output head on hidden states, but {name}"
        f" returns {type(source).__name__} logits; leave out --states to serve the top k"
    )
