"""A network of online distillation, with its objective and its training options."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

from torch import nn

from kdlight.models import StudentRecipe
from kdlight.objectives import Objective


@dataclass
class Learner:
    """One of the networks that a `kdlight.OnlineDistillationModule` trains together.

    Args:
        network: a network from a batch to logits; or a recipe that builds it from the first
            learner that is not a recipe, such as `kdlight.PrunedCausalLM`.
        objective: the loss of this network. Every other network is a teacher of it, whose logits
            take no gradient.
        group: options of its parameter group that differ from the optimizer's, such as
            ``{"lr": 1e-3}``.
        clip: norm that its gradients are clipped to; None for the trainer's ``gradient_clip_val``.
            Each network is clipped separately: a common norm would make their steps depend on each
            other.

    Raises:
        TypeError: ``network`` is neither a network nor a recipe.
        ValueError: ``clip`` is not above 0; ``group`` contains ``params``.

    Example:
        >>> from kdlight import SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> Learner(SingleInput(nn.Linear(4, 3)), CrossEntropy(), group={"lr": 1e-3}).clip is None
        True
    """

    network: nn.Module | StudentRecipe
    objective: Objective
    group: dict[str, Any] | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.network, (nn.Module, StudentRecipe)):
            raise TypeError(
                "network must be a torch.nn.Module that is trained, got"
                f" {type(self.network).__name__}; for a frozen teacher use a DistillationModule"
            )
        if self.clip is not None and not 0 < self.clip < inf:
            raise ValueError(f"clip must be above 0 and finite, or None, got {self.clip}")
        if "params" in (self.group or {}):
            raise ValueError(
                "group contains 'params', but they are those of the network; leave them out"
            )


def build_networks(learners: dict[str, Learner]) -> dict[str, nn.Module]:
    """Return the networks by name; recipes build theirs from the first learner that is a network.

    Raises:
        ValueError: fewer than two learners, or networks that share parameters.
    """
    if len(learners) < 2:
        raise ValueError(
            f"learners must be at least two networks that are trained on each other, got"
            f" {sorted(learners)}; train a single network with a DistillationModule"
        )
    specified = {name: each.network for name, each in learners.items()}
    existing = [each for each in specified.values() if not isinstance(each, StudentRecipe)]
    base = existing[0] if existing else None
    networks = {
        name: each.build(base) if isinstance(each, StudentRecipe) else each
        for name, each in specified.items()
    }
    owners: dict[int, str] = {}
    for name, network in networks.items():
        for parameter in network.parameters():
            owner = owners.setdefault(id(parameter), name)
            if owner != name:
                raise ValueError(
                    f"the networks {owner!r} and {name!r} share parameters, but each is trained"
                    " separately; give each its own"
                )
    return networks
