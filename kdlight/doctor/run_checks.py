"""Check that the parts of a run fit each other and the strategy, as a fit does."""

from __future__ import annotations

from collections.abc import Iterator

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from kdlight.doctor.findings import Finding, error
from kdlight.doctor.module_parts import student_part
from kdlight.doctor.run_environment import RunEnvironment
from kdlight.doctor.shard_factors import tensor_parallel_size
from kdlight.modules.base import DistillationBase
from kdlight.modules.fit_checks import check_fit, check_peers, check_strategy
from kdlight.modules.online import OnlineDistillationModule


def check_parts(
    module: DistillationBase, trainer: Trainer, environment: RunEnvironment
) -> Iterator[Finding]:
    """Yield findings about parts that do not fit each other or the strategy."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    try:
        if isinstance(module, OnlineDistillationModule):
            check_peers(module.learners(), datamodule)
        else:
            check_fit(module.objective, student_part(module), module.teacher, datamodule)
    except ValueError as failure:
        yield error(str(failure))
    if environment.strategy is not None:
        try:
            check_strategy(environment.strategy, module.teacher, module.normalization, module)
        except ValueError as failure:
            yield error(str(failure))
    yield from _check_tensor_parallel_size(environment)
    clips_norm = trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value"
    if isinstance(environment.strategy, FSDPStrategy) and clips_norm:
        yield error(
            f"trainer.gradient_clip_val={trainer.gradient_clip_val} clips by norm, which Lightning"
            " does not support with the older FSDP: set trainer.gradient_clip_algorithm=value or"
            " gradient_clip_val=null, or use kdlight.distributed.FSDP2Strategy"
        )


def _check_tensor_parallel_size(environment: RunEnvironment) -> Iterator[Finding]:
    if not isinstance(environment.strategy, ModelParallelStrategy):
        return
    size = tensor_parallel_size(environment)
    if size < 1 or environment.ranks % size:
        yield error(
            f"tensor_parallel_size={size} does not divide the {environment.ranks} ranks of this run"
            f" ({environment.nodes} nodes with {environment.devices} devices each)"
        )
