"""The whole weights of a network that a strategy has divided among the ranks."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import nn

from kdlight.modules.base import DistillationBase


def gathered_weights(
    trainer: Trainer, module: DistillationBase, network: nn.Module
) -> dict[str, Any] | None:
    """Return the full weights of a sharded network, on the first rank; None if not sharded."""
    if not isinstance(trainer.strategy, (ModelParallelStrategy, FSDPStrategy)):
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model: Any = trainer.strategy.model
    weights = get_model_state_dict(model, options=options)
    prefix = next(name for name, part in module.named_modules() if part is network) + "."
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
