"""Checks of every optimizer step: the loss is finite, and the student has gradients."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from lightning.pytorch import Trainer
from torch import nn


class NonFiniteLossError(RuntimeError):
    """The loss of an optimizer step is not a finite number.

    Example:
        >>> raise NonFiniteLossError("the loss of optimizer step 3 is nan")
        Traceback (most recent call last):
        kdlight.modules.guards.NonFiniteLossError: the loss of optimizer step 3 is nan
    """


def check_finite(trainer: Trainer, loss: float) -> None:
    """Raise a NonFiniteLossError if ``loss`` is not finite, and save the state before the step."""
    if isfinite(loss):
        return
    step = trainer.global_step
    path = Path(trainer.default_root_dir) / f"non_finite_step={step}.ckpt"
    trainer.save_checkpoint(path)
    raise NonFiniteLossError(
        f"the loss of optimizer step {step} is {loss}; the state before this step is saved in"
        f" {path}. Check the learning rate and gradient clipping, half precision (try bf16-mixed or"
        " 32), logits that are -inf for the student or the teacher only (an infinite divergence),"
        " and the batch itself"
    )


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
