"""Teachers: callables from a batch to a logits source, held outside the module tree."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from kdlight.logits import LogitsSource, as_source


@runtime_checkable
class Teacher(Protocol):
    """What a `kdlight.DistillationModule` asks of a teacher."""

    def __call__(self, batch: Any) -> LogitsSource:
        """Logits for ``batch``, on the positions that the student's logits stand at."""
        ...

    def prepare(self, device: torch.device) -> None:
        """Called before a run starts: be on ``device``."""
        ...

    def release(self) -> None:
        """Called after a run: free the device's memory."""
        ...


class FrozenTeacher:
    """A live model that answers in eval mode and without gradients, whatever anybody calls.

    It is no `torch.nn.Module`, and that is the point: a module that holds it has no teacher among
    its parameters, checkpoint keys, optimizer groups or averaged copies, ``train()`` does not
    reach it, and a strategy does not wrap it. It keeps its own dtype.

    Args:
        model: maps a batch to logits or a logits source, such as `kdlight.CausalLM`.
        dtype: name of a dtype to hold the weights in, ``"bfloat16"``; None leaves them.

    Raises:
        TypeError: model is not callable.

    Example:
        >>> net = torch.nn.Linear(3, 5)
        >>> teacher = FrozenTeacher(net)
        >>> teacher(torch.zeros(2, 3)).shape, net.weight.requires_grad
        (torch.Size([2, 5]), False)
    """

    def __init__(self, model: nn.Module, *, dtype: str | None = None) -> None:
        if not callable(model):
            raise TypeError(
                f"model must be callable, from a batch to logits, got {type(model).__name__}"
            )
        self.model = model
        if isinstance(model, nn.Module):
            model.eval().requires_grad_(False)
            if dtype is not None:
                model.to(_dtype(dtype))

    def __call__(self, batch: Any) -> LogitsSource:
        """Logits for ``batch``."""
        self._keep_eval()
        with torch.no_grad():
            return as_source(self.model(batch))

    def prepare(self, device: torch.device) -> None:
        """Move the model to ``device``."""
        if isinstance(self.model, nn.Module):
            self.model.to(device)
            self._keep_eval()

    def release(self) -> None:
        """Move the model back to the CPU."""
        if isinstance(self.model, nn.Module):
            self.model.cpu()

    def _keep_eval(self) -> None:
        if isinstance(self.model, nn.Module) and any(m.training for m in self.model.modules()):
            self.model.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTeacher:
        # whoever copies a module (weight averaging does) wants a second student, not a second
        # teacher: it never changes, so all copies share it
        return self


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must name a floating torch dtype such as 'bfloat16', got {name!r}")
    return dtype
