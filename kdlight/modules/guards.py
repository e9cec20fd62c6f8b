"""What must hold at every optimizer step: a finite loss, and gradients that arrive."""

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
    """Where the loss of an optimizer step is no number, save the state before it and raise."""
    if isfinite(loss):
        return
    step = trainer.global_step
    path = Path(trainer.default_root_dir) / f"non_finite_step={step}.ckpt"
    trainer.save_checkpoint(path)
    raise NonFiniteLossError(
        f"the loss of optimizer step {step} is {loss}; the state before this step is saved in"
        f" {path}. Look at: the learning rate and gradient clipping, half precision (try"
        " bf16-mixed or 32), columns at -inf on one side only (an infinite divergence), and"
        " the batch itself"
    )


def check_gradients(student: nn.Module) -> None:
    """Raise a RuntimeError where nothing that is sharded got a gradient.

    FSDP2 looks for the end of the forward pass in the tensors that a network returns. A logits
    source of one's own that is no dataclass hides them, older versions of torch look into no
    dataclass, and the student would stay as it is without a word.
    """
    if all(p.grad is None for p in student.parameters() if p.requires_grad):
        raise RuntimeError(
            f"no gradient reached the sharded student ({type(student).__name__}): its forward must"
            " return tensors, or a logits source that is a dataclass; with torch below 2.9 put its"
            " layers into a torch.nn.ModuleList"
        )
