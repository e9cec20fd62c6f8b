"""Strategies under which each rank holds whole networks."""

from __future__ import annotations

from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    Strategy,
)


def keeps_networks_whole(strategy: Strategy) -> bool:
    """Return whether a part of a network may run by itself, and parameters stay as they are.

    Strategies that shard a network gather its weights only where all of it runs, or flatten them.

    Example:
        >>> keeps_networks_whole(DDPStrategy())
        True
    """
    is_whole = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy))
    return is_whole and not isinstance(strategy, DeepSpeedStrategy)  # which is a DDPStrategy
