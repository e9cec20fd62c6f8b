"""The base of the recipes of `kdlight.callbacks.Rounds`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

from lightning.pytorch import Trainer

from kdlight.callbacks.round_recipes.work import RoundWork
from kdlight.data.traces.trace import Trace
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase


class RoundRecipe(ABC):
    """What is made in a round.

    Example:
        >>> class Echo(RoundRecipe):
        ...     def run(self, work):
        ...         return work.once("echo", lambda: [])
        >>> Echo().settings()
        {'recipe': 'Echo'}
    """

    def check(  # noqa: B027
        self, trainer: Trainer, module: DistillationBase, sampling: Sampling
    ) -> None:
        """Raise an error before training for a run in which the recipe cannot work."""

    @abstractmethod
    def run(self, work: RoundWork) -> list[Trace]:
        """Return new traces, with their origin; called on all ranks, and the same on all of them.

        Traces that are there already are left out by the callback.
        """

    def settings(self) -> dict[str, Any]:
        """Return all that decides what is made, as data that JSON can represent."""
        values = {name: describe(value) for name, value in sorted(vars(self).items())}
        return {"recipe": type(self).__name__, **values}


def describe(value: Any, *, within: tuple[Any, ...] = ()) -> Any:
    """Return a value as JSON can represent it: a function by its name, an object by what it holds.

    Args:
        value: the value.
        within: the objects that hold it, which are not described again.

    Example:
        >>> from kdlight.data.traces.sums import SimilarSums, solve_sums
        >>> describe(solve_sums), describe(SimilarSums(per_prompt=3))
        ('kdlight.data.traces.sums.solve_sums', {'SimilarSums': {'per_prompt': 3}})
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if any(value is each for each in within):
        return type(value).__name__
    within = (*within, value)
    if isinstance(value, Mapping):
        return [[describe(part, within=within) for part in pair] for pair in value.items()]
    if isinstance(value, (list, tuple)):
        return [describe(each, within=within) for each in value]
    held = dict(getattr(value, "__dict__", {}))
    if isinstance(value, partial):
        held |= {"func": value.func, "args": value.args, "keywords": value.keywords}
    parts = {name: describe(each, within=within) for name, each in sorted(held.items())}
    return {type(value).__name__: parts}
