"""Optimizers and learning-rate schedules of a module, with rates of their own for its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypedDict

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

OptimizerFactory: TypeAlias = Callable[[Iterable], Optimizer]
Schedule: TypeAlias = Callable[[Optimizer], LRScheduler]
Groups: TypeAlias = "list[dict[str, Any]]"


class PartOptimizers(TypedDict, total=False):
    """A factory of an optimizer for each part of a `kdlight.DistillationModule`.

    As a ``TypedDict`` it is the first type of a union: jsonargparse rejects other values by their
    keys. A ``dict`` would be printed as a callable, and a saved config would be incomplete.
    """

    student: OptimizerFactory
    objective: OptimizerFactory


def default_optimizer(params: Iterable) -> Optimizer:
    """Return AdamW with a learning rate of 5e-4; unlike a lambda, it can be saved in a config."""
    return AdamW(params, lr=5e-4)


SCHEDULER_OPTIONS = ("interval", "frequency", "monitor", "strict", "name")
"""The options of Lightning's scheduler dict that a config may set."""


class PartitionedOptimizer(Optimizer):
    """One optimizer over several, each for its own parameters.

    Automatic optimization, precision plugins and learning-rate schedules use it like any other
    optimizer. Its parameter groups and its state are those of the optimizers within.

    Args:
        optimizers: the optimizers, whose parameters are disjoint.

    Example:
        >>> weight, scale = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        >>> both = PartitionedOptimizer(
        ...     [torch.optim.SGD([weight], lr=0.5), torch.optim.AdamW([scale], lr=0.1)]
        ... )
        >>> [group["lr"] for group in both.param_groups]
        [0.5, 0.1]
    """

    def __init__(self, optimizers: Iterable[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        groups = [group for each in self.optimizers for group in each.param_groups]
        super().__init__(groups, {})
        self.defaults = self.optimizers[0].defaults  # which schedules read
        self._share()

    def _share(self) -> None:
        """Let the optimizers within use the groups and the state of this one."""
        groups = iter(self.param_groups)
        for each in self.optimizers:
            each.param_groups = [next(groups) for _ in each.param_groups]
            each.state = self.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step of each optimizer."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for each in self.optimizers:
            each.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load groups and state."""
        super().load_state_dict(state_dict)
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the groups of the optimizers within; others are refused, as they have no optimizer.

        Raises:
            ValueError: a group of none of the optimizers.
        """
        if not any(param_group is group for each in self.optimizers for group in each.param_groups):
            raise ValueError(
                "a PartitionedOptimizer takes no further parameter group; add it to one of its"
                " `optimizers` before they are combined"
            )
        super().add_param_group(param_group)


def trainable(part: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of ``part`` that require a gradient."""
    return [parameter for parameter in part.parameters() if parameter.requires_grad]


def make_optimizer(
    optimizer: OptimizerFactory | Mapping[str, OptimizerFactory], parts: Mapping[str, Groups]
) -> Optimizer:
    """Create the optimizer of a module.

    Args:
        optimizer: one factory for all parts, or one for each by name.
        parts: the parameter groups of each part; groups without parameters are left out.

    Raises:
        ValueError: a mapping that lacks a part with parameters, or names an unknown one.
    """
    groups = {name: [g for g in each if g["params"]] for name, each in parts.items()}
    if not isinstance(optimizer, Mapping):
        return optimizer([group for each in groups.values() for group in each])
    unknown = sorted(set(optimizer) - set(groups))
    missing = sorted(name for name, each in groups.items() if each and name not in optimizer)
    if unknown or missing:
        raise ValueError(
            f"optimizer has entries for {sorted(optimizer)}, but the parts with parameters are"
            f" {sorted(name for name, each in groups.items() if each)}; give each of them one entry"
        )
    unused = [name for name in optimizer if not groups[name]]
    if unused:
        rank_zero_warn(f"the optimizer of {', '.join(unused)} is not used: no trainable parameters")
    return PartitionedOptimizer([optimizer[name](each) for name, each in groups.items() if each])


def check_scheduler_config(config: Mapping[str, Any] | None) -> None:
    """Raise a ValueError for options that Lightning's scheduler dict does not have."""
    unknown = sorted(set(config or {}) - set(SCHEDULER_OPTIONS))
    if unknown:
        raise ValueError(
            f"lr_scheduler_config has {unknown}, but its options are {list(SCHEDULER_OPTIONS)}"
        )
    interval = (config or {}).get("interval", "step")
    if interval not in ("step", "epoch"):
        raise ValueError(
            f"lr_scheduler_config: interval must be 'step' or 'epoch', got {interval!r}"
        )


def make_optimizer_config(
    optimizer: Optimizer, lr_scheduler: Schedule | None, config: Mapping[str, Any] | None
) -> Any:
    """Return what ``configure_optimizers`` returns: the optimizer, and its schedule if any.

    A schedule is stepped once per optimizer step by default; `ReduceLROnPlateau` once per epoch.

    Raises:
        ValueError: a `ReduceLROnPlateau` without ``monitor``.
    """
    if lr_scheduler is None:
        return optimizer
    scheduler = lr_scheduler(optimizer)
    is_plateau = isinstance(scheduler, ReduceLROnPlateau)
    options = {"interval": "epoch" if is_plateau else "step", **(config or {})}
    if is_plateau and options.get("monitor") is None:
        raise ValueError(
            f"{type(scheduler).__name__} needs the name of a logged metric; set"
            " lr_scheduler_config={'monitor': 'val/forward_kl'}"
        )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **options}}
