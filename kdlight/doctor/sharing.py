"""Among how many ranks a strategy divides what a run holds."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)

from kdlight.doctor.setting import Setting


@dataclass(frozen=True)
class Sharing:
    """Into how many parts each thing is divided; 1 is whole on every rank.

    Attributes:
        weights: of the student, outside of the layer that is at work.
        gradients: of the student.
        optimizer: its state.
        teacher: the weights of a teacher that is to be sharded.
        buckets: whether gradients are held once more, in the buckets in which they travel.
        masters: whether the optimizer holds the weights once more, in float32.
        gathers: whether layers are gathered to be used.
    """

    weights: int = 1
    gradients: int = 1
    optimizer: int = 1
    teacher: int = 1
    buckets: bool = False
    masters: bool = False
    gathers: bool = False


def sharing(setting: Setting) -> Sharing:
    """How the strategy of ``setting`` divides."""
    strategy, ranks = setting.strategy, setting.ranks
    if isinstance(strategy, ModelParallelStrategy):  # FSDP2
        parts = max(1, ranks // max(1, tensor_parallel_size(setting)))
        return Sharing(parts, parts, parts, parts, gathers=True)
    if isinstance(strategy, DeepSpeedStrategy):
        stage = _zero_stage(strategy)
        gradients, weights = (ranks if stage >= least else 1 for least in (2, 3))
        half = setting.autocast is not None  # the engine makes half of "mixed", and keeps masters
        return Sharing(weights, gradients, ranks if stage else 1, masters=half, gathers=stage == 3)
    if isinstance(strategy, FSDPStrategy):
        kind = getattr(strategy.sharding_strategy, "name", "FULL_SHARD")
        parts = setting.devices if kind.startswith("HYBRID") else ranks
        if kind == "NO_SHARD":
            return Sharing()
        return Sharing(1 if kind.startswith("SHARD_GRAD") else parts, parts, parts, gathers=True)
    return Sharing(buckets=isinstance(strategy, DDPStrategy) and _buckets(strategy))


def tensor_parallel_size(setting: Setting) -> int:
    """Ranks that hold one copy of the student together, by dividing its linear layers."""
    size = getattr(setting.strategy, "_tensor_parallel_size", 1)
    return setting.devices if size == "auto" else int(size)


def _zero_stage(strategy: DeepSpeedStrategy) -> int:
    config = strategy.config if isinstance(strategy.config, dict) else {}
    return int(config.get("zero_optimization", {}).get("stage", 0))


def _buckets(strategy: DDPStrategy) -> bool:
    return not strategy._ddp_kwargs.get("gradient_as_bucket_view", False)
