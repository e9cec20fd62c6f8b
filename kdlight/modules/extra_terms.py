"""Terms that are added to the loss of an objective, each a mean over a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor

from kdlight.objectives import Loss
from kdlight.objectives.weighted import check_term_name

Terms: TypeAlias = "Mapping[str, tuple[float, Tensor]]"
"""Terms by name, each with its weight and its mean over the batch."""

EXTRA = "extra"
"""The name of a term that a module returns without one."""


def named_terms(terms: Tensor | Mapping[str, Any] | None) -> dict[str, tuple[float, Tensor]]:
    """Return terms with their names, and with a weight of 1.

    Raises:
        ValueError: a name that is logged for something else, or a term that is not one number.

    Example:
        >>> import torch
        >>> named_terms(torch.tensor(0.5))
        {'extra': (1.0, tensor(0.5000))}
    """
    if terms is None:
        return {}
    named = terms if isinstance(terms, Mapping) else {EXTRA: terms}
    for name, term in named.items():
        check_term_name(name)
        if term.dim() > 0:
            raise ValueError(
                f"the term {name!r} of extra_loss must be one number, the mean over the batch, got"
                f" a tensor {tuple(term.shape)}"
            )
    return {name: (1.0, term) for name, term in named.items()}


def with_terms(loss: Loss, terms: Terms) -> tuple[Loss, Tensor]:
    """Return the loss with the terms among its parts, and its total with the terms added.

    Raises:
        ValueError: a term has the name of a part of the objective.

    Example:
        >>> import torch
        >>> loss = Loss(torch.tensor(6.0), torch.tensor(2))
        >>> with_terms(loss, {"l1": (1.0, torch.tensor(0.5))})[1]
        tensor(7.)
    """
    total = loss.total
    parts = dict(loss.parts)
    for name, (weight, term) in terms.items():
        if name in parts:
            raise ValueError(f"a term of extra_loss is called {name!r}, as a part of the objective")
        units = term * loss.count
        parts[name] = units.detach()
        total = total + weight * units
    return loss._replace(parts=parts), total
