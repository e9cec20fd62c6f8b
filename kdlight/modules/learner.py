"""A network that learns, what it learns on, and how."""

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
        network: from a batch to logits; or a recipe that builds it from the first network that is
            none, such as `kdlight.PrunedCausalLM`.
        objective: what it learns on. Each other network is its teacher, and takes no gradient.
        group: what its parameter group has of its own, such as ``{"lr": 1e-3}``; the rest is the
            optimizer's.
        clip: norm that its gradients are clipped to; None for the trainer's ``gradient_clip_val``.
            Each network is clipped by itself, as one norm for all would couple them.

    Raises:
        TypeError: network is neither.
        ValueError: clip is not above 0; ``params`` in the group.

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
                f"network must be a torch.nn.Module that learns, got {type(self.network).__name__};"
                " for a teacher that stays as it is use a DistillationModule"
            )
        if self.clip is not None and not 0 < self.clip < inf:
            raise ValueError(f"clip must be above 0 and finite, or None, got {self.clip}")
        if "params" in (self.group or {}):
            raise ValueError("group has 'params', which are those of the network; leave them out")


def build_networks(learners: dict[str, Learner]) -> dict[str, nn.Module]:
    """The networks by name; recipes build theirs from the first network that is there.

    Raises:
        ValueError: fewer than two learners, or networks that share parameters.
    """
    if len(learners) < 2:
        raise ValueError(
            f"learners must be at least two networks that learn from each other, got"
            f" {sorted(learners)}; one that learns alone is a DistillationModule's"
        )
    given = {name: each.network for name, each in learners.items()}
    there = [each for each in given.values() if not isinstance(each, StudentRecipe)]
    networks = {
        name: each.build(there[0] if there else None) if isinstance(each, StudentRecipe) else each
        for name, each in given.items()
    }
    owners: dict[int, str] = {}
    for name, network in networks.items():
        for parameter in network.parameters():
            owner = owners.setdefault(id(parameter), name)
            if owner != name:
                raise ValueError(
                    f"the networks {owner!r} and {name!r} share parameters, and each is to learn"
                    " for itself; give each its own"
                )
    return networks
