"""Where a run is to happen: strategy, ranks and precision."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import Strategy, StrategyRegistry

HALF = {"bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True)
class Setting:
    """Where a run is to happen, whether or not this machine is the place.

    Attributes:
        strategy: how ranks divide the work; None where it could not even be made.
        devices: ranks of one node.
        nodes: number of nodes.
        precision: as the Trainer spells it, ``"bf16-mixed"``.
        here: whether what is asked for is there on this machine.
    """

    strategy: Strategy | None
    devices: int = 1
    nodes: int = 1
    precision: str = "32-true"
    here: bool = True

    @classmethod
    def of(cls, trainer: Trainer) -> Setting:
        """That of a Trainer that could be made."""
        strategy = trainer.strategy
        return cls(strategy, trainer.num_devices, trainer.num_nodes, str(trainer.precision))

    @classmethod
    def asked(cls, options: Mapping[str, Any]) -> Setting:
        """That which the options of a Trainer ask for, on a machine that does not have it."""
        strategy = options.get("strategy")
        if isinstance(strategy, str):
            name, strategy = strategy, None
            with suppress(Exception):  # it may need what is not there
                strategy = StrategyRegistry.get(name)
        return cls(
            strategy if isinstance(strategy, Strategy) else None,
            _count(options.get("devices")),
            options.get("num_nodes") or 1,
            str(options.get("precision") or "32-true"),
            here=False,
        )

    @property
    def ranks(self) -> int:
        """Number of ranks on all nodes."""
        return self.devices * self.nodes

    @property
    def autocast(self) -> torch.dtype | None:
        """What matrix products are computed in, where that is not what weights are held in."""
        return self._half if self.precision.endswith("mixed") else None

    @property
    def held_in(self) -> torch.dtype | None:
        """What the weights of the student are converted to; None leaves them."""
        return self._half if self.precision.endswith("-true") else None

    @property
    def _half(self) -> torch.dtype | None:
        return HALF.get(self.precision.partition("-")[0])


def _count(devices: Any) -> int:
    if isinstance(devices, (list, tuple)):
        return len(devices)
    try:
        return max(1, int(devices))  # -1 and "auto" mean those that are there, which are not known
    except (TypeError, ValueError):
        return 1
