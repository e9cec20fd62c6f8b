"""The training step of the module that the mixin is added to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from torch import Tensor


def call_own_step(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a training step with as many of the arguments of Lightning as it takes.

    Example:
        >>> call_own_step(lambda batch: batch, "batch", 0)
        'batch'
        >>> call_own_step(lambda *args: args, "batch", 0)
        ('batch', 0)
    """
    parameters = signature(step).parameters.values()
    if any(each.kind is Parameter.VAR_POSITIONAL for each in parameters):
        return step(*args, **kwargs)
    return step(*args[: len(parameters)], **kwargs)  # `training_step(self, batch)`


def loss_and_logits(output: Any) -> tuple[Tensor, Any]:
    """Return the loss that a training step returned, and its logits if there are any.

    Raises:
        TypeError: there is no loss.
        ValueError: the logits are detached, so that nothing would be learned from the teacher.

    Example:
        >>> import torch
        >>> loss_and_logits({"loss": torch.tensor(1.0)})
        (tensor(1.), None)
    """
    is_mapping = isinstance(output, Mapping)
    loss = output.get("loss") if is_mapping else output
    logits = output.get("logits") if is_mapping else None
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"the training_step of the module returned {output!r}, and the objective is added to"
            " its loss: return a tensor, or a dict with 'loss', or call distill(..., task_weight=0)"
        )
    if loss.requires_grad and isinstance(logits, Tensor) and not logits.requires_grad:
        raise ValueError(
            "the training_step returned 'logits' without a graph, from which the objective has no"
            " gradient; return logits that are not detached, or leave them out and define"
            " student_logits"
        )
    return loss, logits
