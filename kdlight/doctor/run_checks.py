"""Do the parts fit each other and the strategy? Asked of the checks that a fit makes, too."""

from __future__ import annotations

from collections.abc import Iterator

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from kdlight.doctor.findings import Finding, error
from kdlight.doctor.setting import Setting
from kdlight.doctor.sharing import tensor_parallel_size
from kdlight.modules import StandaloneModule
from kdlight.modules.fit_checks import check_fit, check_strategy


def check_parts(module: StandaloneModule, trainer: Trainer, setting: Setting) -> Iterator[Finding]:
    """Findings about parts that do not fit each other, and about what the strategy cannot do."""
    said, datamodule = set(), trainer.datamodule  # type: ignore[attr-defined]
    for check in (
        lambda: check_fit(module.objective, module.student, module.teacher, datamodule),
        lambda: (
            setting.strategy is not None
            and check_strategy(setting.strategy, module.teacher, module.normalization)
        ),
    ):
        try:
            check()
        except ValueError as failure:
            if str(failure) not in said:
                yield error(str(failure))
            said.add(str(failure))
    yield from _check_ranks(setting)
    clips_norm = trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value"
    if isinstance(setting.strategy, FSDPStrategy) and clips_norm:
        yield error(
            f"trainer.gradient_clip_val={trainer.gradient_clip_val} clips by norm, which Lightning"
            " does not do under the older FSDP: set trainer.gradient_clip_algorithm=value,"
            " gradient_clip_val=null, or use kdlight.distributed.FSDP2Strategy"
        )


def _check_ranks(setting: Setting) -> Iterator[Finding]:
    if not isinstance(setting.strategy, ModelParallelStrategy):
        return
    group = tensor_parallel_size(setting)
    if group < 1 or setting.ranks % group:
        yield error(
            f"tensor_parallel_size={group} does not divide the {setting.ranks} ranks of this run"
            f" ({setting.nodes} nodes with {setting.devices} devices each)"
        )
