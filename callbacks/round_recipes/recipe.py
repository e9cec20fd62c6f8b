"""The base of the recipes of `kdlight.callbacks.Rounds`."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


def describe(value: Any) -> Any:
    """Return a value as JSON can represent it: a function by its name, an object by what it holds.

    Example:
        >>> from kdlight.data.traces.sums import SimilarSums, solve_sums
        >>> describe(solve_sums), describe(SimilarSums(per_prompt=3))
        ('kdlight.data.traces.sums.solve_sums', {'SimilarSums': {'per_prompt': 3}})
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    held = getattr(value, "__dict__", {})
    return {type(value).__name__: {name: describe(each) for name, each in sorted(held.items())}}
