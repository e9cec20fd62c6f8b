"""Checks of every optimizer step: the loss is finite, and the student has gradients."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from pathlib import Path

from lightning.pytorch import Trainer
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


class NonFiniteLossError(RuntimeError):
    """The loss of an optimizer step is not a finite number.

    Example:
        >>> raise NonFiniteLossError("the loss of optimizer step 3 is nan")
        Traceback (most recent call last):
        kdlight.modules.guards.NonFiniteLossError: the loss of optimizer step 3 is nan
    """


def check_finite(trainer: Trainer, loss: float, *, are_gradients_finite: bool = True) -> None:
    """Raise a NonFiniteLossError for a loss or gradients that are not finite.

    It is raised before the optimizer uses them. The state before the step is saved.
    If it cannot be, the error says so, too.
    """
    if isfinite(loss) and are_gradients_finite:
        return
    what = "" if are_gradients_finite else ", and its gradients are not finite"
    step = trainer.global_step
    raise NonFiniteLossError(
        f"the loss of optimizer step {step} is {loss}{what}; {_save_state(trainer, step)}. Check"
        " the learning rate and gradient clipping, half precision (try bf16-mixed or 32), logits"
        " that are -inf for the student or the teacher only (an infinite divergence), and the batch"
        " itself"
    )


def _save_state(trainer: Trainer, step: int) -> str:
    """Save a checkpoint if that is possible, and return what became of it."""
    path = Path(trainer.default_root_dir) / f"non_finite_step={step}.ckpt"
    try:
        trainer.save_checkpoint(path)
    except (Exception, CheckpointException) as error:  # the loss is the error to be told
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        return f"the state before this step could not be saved in {path} ({reason})"
    return f"the state before this step is saved in {path}"


def check_gradients(student: nn.Module) -> None:
    """Raise a RuntimeError if no parameter of a sharded student has a gradient.

    FSDP2 finds the end of the forward pass by the tensors that a network returns. It does not find
    tensors in a custom logits source that is not a dataclass, and versions of torch below 2.9 do
    not look into dataclasses at all. The student would then silently not be trained.
    """
    if all(p.grad is None for p in student.parameters() if p.requires_grad):
        raise RuntimeError(
            f"no gradient reached the sharded student ({type(student).__name__}): its forward must"
            " return tensors, or a logits source that is a dataclass; with torch below 2.9 put its"
            " layers into a torch.nn.ModuleList"
        )


def check_sharded(networks: Iterable[nn.Module], objectives: Iterable[nn.Module]) -> None:
    """Raise a RuntimeError for trainable parameters that FSDP2 does not keep equal on all ranks.

    Args:
        networks: the networks that are trained.
        objectives: their objectives, whose gradients are averaged.
    """
    equal = {id(p) for objective in objectives for p in objective.parameters()}
    networks = list(networks)
    # parameters that are gathered, such as after a validation, are plain tensors for a while
    parts = (part for network in networks for part in network.modules())
    equal |= {id(p) for part in parts if isinstance(part, FSDPModule) for p in part.parameters()}
    whole = [
        name
        for network in networks
        for name, p in network.named_parameters()
        if p.requires_grad and id(p) not in equal and not isinstance(p, DTensor)
    ]
    if whole:
        names = ", ".join(whole[:3]) + (", ..." if len(whole) > 3 else "")
        raise RuntimeError(
            f"FSDP2 is to train {names}, which are not sharded: each rank would train a copy of its"
            " own. Shard the network in configure_model of the module, such as"
            " `fully_shard(self.net, mesh=self.device_mesh['data_parallel'])`, or use another"
            " strategy"
        )
