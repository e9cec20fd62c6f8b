"""The scalar hyper-parameters of an objective, which callbacks change and modules log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn


class Scalar(NamedTuple):
    """A number that can be read and set: an attribute of a module, or an entry of its dict."""

    holder: dict[str, Any]
    key: str

    def get(self) -> float:
        """Return the current value."""
        return self.holder[self.key]

    def set(self, value: float) -> None:
        """Set the value."""
        self.holder[self.key] = value


def scalar_hyperparameters(objective: nn.Module) -> dict[str, Scalar]:
    """Return all scalar attributes of an objective and of its submodules, by path.

    Example:
        >>> from kdlight.objectives import TAID, ForwardKL, Weighted
        >>> list(scalar_hyperparameters(Weighted({"kd": ForwardKL(), "taid": TAID()})))
        ['weights.kd', 'weights.taid', 'terms.kd.temperature', 'terms.taid.t']
    """
    return {
        ".".join(filter(None, (path, name))): scalar
        for path, module in objective.named_modules()
        for name, scalar in _own_scalars(module)
    }


def logged_hyperparameters(objective: nn.Module) -> dict[str, float]:
    """Return the weights, temperatures and ``t`` of an objective and of its submodules, by path.

    Example:
        >>> from kdlight.objectives import ForwardKL, Weighted
        >>> logged_hyperparameters(Weighted({"kd": ForwardKL(temperature=2.0)}, {"kd": 0.5}))
        {'weights.kd': 0.5, 'terms.kd.temperature': 2.0}
    """
    return {
        path: scalar.get()
        for path, scalar in scalar_hyperparameters(objective).items()
        if path.split(".")[-1] in ("t", "temperature") or "weights" in path.split(".")[-2:-1]
    }


def _own_scalars(module: nn.Module) -> Iterator[tuple[str, Scalar]]:
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if _is_scalar(value):
            yield name, Scalar(vars(module), name)
        elif isinstance(value, dict):
            yield from (
                (f"{name}.{key}", Scalar(value, key))
                for key, entry in value.items()
                if _is_scalar(entry)
            )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
