"""The numbers of an objective that may move while it is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn


class Number(NamedTuple):
    """Where a number stands: a plain attribute of a module, or an entry of a dict it holds."""

    holder: dict[str, Any]
    key: str

    def get(self) -> float:
        """The number as it stands."""
        return self.holder[self.key]

    def put(self, value: float) -> None:
        """Move it."""
        self.holder[self.key] = value


def find_numbers(objective: nn.Module) -> dict[str, Number]:
    """All plain numbers of an objective and of those within, by their path.

    Example:
        >>> from kdlight.objectives import TAID, ForwardKL, Weighted
        >>> list(find_numbers(Weighted({"kd": ForwardKL(), "taid": TAID()})))
        ['weights.kd', 'weights.taid', 'terms.kd.temperature', 'terms.taid.t']
    """
    return {
        ".".join(filter(None, (path, name))): number
        for path, module in objective.named_modules()
        for name, number in _own(module)
    }


def _own(module: nn.Module) -> Iterator[tuple[str, Number]]:
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if _is_number(value):
            yield name, Number(vars(module), name)
        elif isinstance(value, dict):
            yield from (
                (f"{name}.{key}", Number(value, key))
                for key, entry in value.items()
                if _is_number(entry)
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
