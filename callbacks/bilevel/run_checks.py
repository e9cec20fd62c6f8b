"""Whether a run can train a learned ratio, before any work is lost."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from kdlight.callbacks.bilevel.fusion_term import fusion_term
from kdlight.callbacks.module_check import check_student_logits
from kdlight.callbacks.training_batches import check_datamodule
from kdlight.distributed.whole import keeps_networks_whole
from kdlight.modules import DistillationBase, OnlineDistillationModule


def check_run(trainer: Trainer, module: LightningModule, form: str, dataloader: str) -> None:
    """Raise a ValueError for a run in which the ratio cannot be trained.

    Args:
        trainer: the trainer.
        module: the module.
        form: the argument of `kdlight.callbacks.BilevelUpdate`.
        dataloader: the argument of `kdlight.callbacks.BilevelUpdate`.
    """
    is_online = isinstance(module, OnlineDistillationModule)
    if is_online or not isinstance(module, DistillationBase) or not module.is_set_up:
        raise ValueError(
            "BilevelUpdate needs a kdlight.DistillationModule, or a module with the"
            f" kdlight.DistillationMixin after distill(), got a {type(module).__name__}"
        )
    if not module.automatic_optimization:
        raise ValueError(
            "BilevelUpdate acts before the optimizer step of the Trainer, but"
            f" {type(module).__name__} uses manual optimization (automatic_optimization is False)"
        )
    check_student_logits("BilevelUpdate", module)
    fusion_term(module.objective)
    check_strategy(trainer.strategy, form)
    check_datamodule("BilevelUpdate", trainer)
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    method = getattr(data, dataloader, None)
    # the methods of the base class only raise an error
    if not callable(method) or method.__func__ is getattr(LightningDataModule, dataloader, None):
        raise ValueError(
            "dataloader must be the name of a method of the data module, such as 'val_dataloader',"
            f" but {type(data).__name__} has no {dataloader!r}"
        )


def check_strategy(strategy: Strategy, form: str) -> None:
    """Raise a ValueError for a strategy under which weights cannot be moved for a while.

    Example:
        >>> from lightning.pytorch.strategies import DDPStrategy
        >>> check_strategy(DDPStrategy(), "exact")
    """
    if keeps_networks_whole(strategy):
        return
    name = type(strategy).__name__
    if not isinstance(strategy, ModelParallelStrategy):
        raise ValueError(
            "BilevelUpdate moves the student's weights for a moment, which strategies that flatten"
            f" or own them do not allow, such as {name}; use one device, DDP or FSDP2"
            " (kdlight.distributed.FSDP2Strategy)"
        )
    if form == "exact":
        raise ValueError(
            "form='exact' differentiates a gradient, which sharded weights do not allow, but the"
            f" strategy is {name}; use form='finite_difference'"
        )
    if strategy._tensor_parallel_size not in (1, "auto"):
        raise ValueError(
            "BilevelUpdate supports sharded weights, but no tensor parallelism: set"
            f" tensor_parallel_size to 1, got {strategy._tensor_parallel_size}"
        )


def check_precision(module: nn.Module, form: str) -> None:
    """Raise a ValueError for weights that a finite difference would move by nothing.

    Example:
        >>> import torch
        >>> check_precision(nn.Linear(2, 2).to(torch.bfloat16), "exact")
    """
    for name, weight in module.named_parameters() if form == "finite_difference" else ():
        is_half = weight.is_floating_point() and weight.dtype.itemsize < 4
        if weight.requires_grad and is_half:
            raise ValueError(
                "form='finite_difference' moves weights by little, which half precision rounds"
                f" away, but {name} is in half precision; use mixed precision, such as"
                " Trainer(precision='bf16-mixed'), or form='exact'"
            )


def one_loader(trainer: Trainer, dataloader: str) -> Any:
    """Return the loader of the data module, which draws no random number of the run.

    Raises:
        ValueError: The data module returns several.
    """
    with isolate_rng():
        loader = getattr(trainer.datamodule, dataloader)()  # type: ignore[attr-defined]
    if isinstance(loader, (list, tuple, dict)):
        raise ValueError(
            f"{dataloader} of the data module returns {len(loader)} data loaders, and BilevelUpdate"
            " needs one; give the name of a method that returns one as dataloader"
        )
    return loader
