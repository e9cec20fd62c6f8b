"""The environment of a run: strategy, ranks and precision."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import Strategy, StrategyRegistry

HALF_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True)
class RunEnvironment:
    """Strategy, ranks and precision of a run, which may be meant for another machine.

    Attributes:
        strategy: the strategy; None if it could not be created.
        devices: number of ranks of one node.
        nodes: number of nodes.
        precision: as in the Trainer, such as ``"bf16-mixed"``.
        is_available: whether this machine has the requested devices.

    Example:
        >>> environment = RunEnvironment.from_options({"devices": 4, "precision": "bf16-true"})
        >>> environment.ranks, environment.weight_dtype
        (4, torch.bfloat16)
    """

    strategy: Strategy | None
    devices: int = 1
    nodes: int = 1
    precision: str = "32-true"
    is_available: bool = True

    @classmethod
    def from_trainer(cls, trainer: Trainer) -> RunEnvironment:
        """Return the environment of a Trainer."""
        strategy = trainer.strategy
        return cls(strategy, trainer.num_devices, trainer.num_nodes, str(trainer.precision))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> RunEnvironment:
        """Return the environment of Trainer options that this machine does not support."""
        strategy = options.get("strategy")
        if isinstance(strategy, str):
            name, strategy = strategy, None
            with suppress(Exception):  # it may need devices that are not available
                strategy = StrategyRegistry.get(name)
        return cls(
            strategy if isinstance(strategy, Strategy) else None,
            _device_count(options.get("devices")),
            options.get("num_nodes") or 1,
            str(options.get("precision") or "32-true"),
            is_available=False,
        )

    @property
    def ranks(self) -> int:
        """Number of ranks on all nodes."""
        return self.devices * self.nodes

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """Dtype of matrix products under autocast; None without autocast."""
        return self._half_dtype if self.precision.endswith("mixed") else None

    @property
    def weight_dtype(self) -> torch.dtype | None:
        """Dtype that the weights of the student are converted to; None if they are kept."""
        return self._half_dtype if self.precision.endswith("-true") else None

    @property
    def _half_dtype(self) -> torch.dtype | None:
        return HALF_DTYPES.get(self.precision.partition("-")[0])


def _device_count(devices: Any) -> int:
    if isinstance(devices, (list, tuple)):
        return len(devices)
    try:
        return max(1, int(devices))  # -1 and "auto" mean all devices, whose number is unknown here
    except (TypeError, ValueError):
        return 1
