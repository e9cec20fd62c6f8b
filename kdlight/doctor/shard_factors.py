"""Over how many ranks a strategy shards weights, gradients and optimizer state."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)

from kdlight.doctor.run_environment import RunEnvironment


@dataclass(frozen=True)
class ShardFactors:
    """The number of shards of each kind of memory; 1 means replicated on every rank.

    Attributes:
        weights: of the student, without the layer that is being computed.
        gradients: of the student.
        optimizer: of the optimizer state.
        teacher: of the weights of a teacher that is to be sharded.
        ddp_buckets: whether DDP keeps a second copy of the gradients in its buckets.
        master_weights: whether the optimizer keeps a second copy of the weights, in float32.
        gathers_layers: whether layers are gathered before they are computed.
    """

    weights: int = 1
    gradients: int = 1
    optimizer: int = 1
    teacher: int = 1
    ddp_buckets: bool = False
    master_weights: bool = False
    gathers_layers: bool = False


def shard_factors(environment: RunEnvironment) -> ShardFactors:
    """Return the shard factors of the strategy of ``environment``.

    Example:
        >>> shard_factors(RunEnvironment(DDPStrategy(), devices=4)).ddp_buckets
        True
    """
    strategy, ranks = environment.strategy, environment.ranks
    if isinstance(strategy, ModelParallelStrategy):  # FSDP2
        shards = max(1, ranks // max(1, tensor_parallel_size(environment)))
        return ShardFactors(shards, shards, shards, shards, gathers_layers=True)
    if isinstance(strategy, DeepSpeedStrategy):
        stage = _zero_stage(strategy)
        gradients, weights = (ranks if stage >= first_stage else 1 for first_stage in (2, 3))
        return ShardFactors(
            weights,
            gradients,
            ranks if stage else 1,
            # under "mixed" the engine converts the weights to half and keeps master weights
            master_weights=environment.autocast_dtype is not None,
            gathers_layers=stage == 3,
        )
    if isinstance(strategy, FSDPStrategy):
        kind = getattr(strategy.sharding_strategy, "name", "FULL_SHARD")
        if kind == "NO_SHARD":
            return ShardFactors()
        shards = environment.devices if kind.startswith("HYBRID") else ranks
        weights = 1 if kind.startswith("SHARD_GRAD") else shards
        return ShardFactors(weights, shards, shards, gathers_layers=True)
    return ShardFactors(ddp_buckets=isinstance(strategy, DDPStrategy) and _has_buckets(strategy))


def tensor_parallel_size(environment: RunEnvironment) -> int:
    """Return the number of ranks that share the linear layers of one copy of the student."""
    size = getattr(environment.strategy, "_tensor_parallel_size", 1)
    return environment.devices if size == "auto" else int(size)


def _zero_stage(strategy: DeepSpeedStrategy) -> int:
    config = strategy.config if isinstance(strategy.config, dict) else {}
    return int(config.get("zero_optimization", {}).get("stage", 0))


def _has_buckets(strategy: DDPStrategy) -> bool:
    return not strategy._ddp_kwargs.get("gradient_as_bucket_view", False)
