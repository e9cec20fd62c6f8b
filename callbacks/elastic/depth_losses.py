"""The objective's loss at each depth, over the micro-batches and ranks of a step."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdlight.callbacks.elastic.depth_means import depth_means
from kdlight.objectives import Loss


class DepthLosses:
    """Records what an objective returns, for the depth that is trained.

    Attributes:
        depth: the depth that is trained; None while none is.

    Example:
        >>> from kdlight.objectives import ForwardKL, LossInputs
        >>> losses, objective = DepthLosses(), ForwardKL()
        >>> losses.attach(objective)
        >>> losses.depth = 3
        >>> _ = objective(LossInputs(torch.zeros(4, 7), torch.zeros(4, 7)))
        >>> losses.sums
        {3: tensor([0., 4.], dtype=torch.float64)}
        >>> losses.detach()
    """

    def __init__(self) -> None:
        self.depth: int | None = None
        self.sums: dict[int, Tensor] = {}
        self._hook: RemovableHandle | None = None

    def attach(self, objective: nn.Module) -> None:
        """Record every loss of ``objective`` from now on."""
        self.detach()
        self._hook = objective.register_forward_hook(self._record)

    def detach(self) -> None:
        """Record no more, and forget an unfinished step."""
        if self._hook is not None:
            self._hook.remove()
        self.depth, self.sums, self._hook = None, {}, None

    def _record(self, objective: nn.Module, args: Any, loss: Any) -> None:
        if self.depth is None or not isinstance(loss, Loss):
            return
        # on the CPU, as Apple's devices have no float64
        total, count = (each.detach().cpu().double() for each in (loss.total, loss.count))
        values = torch.stack([total, count])
        known = self.sums.get(self.depth)
        self.sums[self.depth] = values if known is None else known + values

    def take_means(self, trainer: Trainer) -> dict[int, float]:
        """Return the mean loss of each depth over all ranks, and start a new step."""
        sums, self.sums = self.sums, {}
        return depth_means(trainer, sums)
