"""Teachers: callables from a batch to a logits source, held outside the module tree."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from kdlight.logits import LogitsSource, as_source
from kdlight.sharding import shard as shard_network


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

    Where the student is sharded with FSDP2, ``shard`` divides the teacher too: each rank holds its
    part of every layer and gathers a layer while it runs. Embeddings and output head are gathered
    once, at the first batch, and stay so until the run is over.

    Args:
        model: maps a batch to logits or a logits source, such as `kdlight.CausalLM`.
        dtype: name of a dtype to hold the weights in, ``"bfloat16"``; None leaves them.
        shard: divide the weights among the ranks, with `kdlight.modules.FSDP2Strategy`. False
            keeps them whole on every rank, which is quicker where they fit.

    Raises:
        TypeError: model is not callable.

    Example:
        >>> net = torch.nn.Linear(3, 5)
        >>> teacher = FrozenTeacher(net)
        >>> teacher(torch.zeros(2, 3)).shape, net.weight.requires_grad
        (torch.Size([2, 5]), False)
    """

    def __init__(self, model: nn.Module, *, dtype: str | None = None, shard: bool = False) -> None:
        if not callable(model):
            raise TypeError(
                f"model must be callable, from a batch to logits, got {type(model).__name__}"
            )
        self.model = model
        self.shard = bool(shard)
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
        """Move the model to ``device``; one that is to be sharded goes there part by part."""
        if isinstance(self.model, nn.Module):
            if not self.shard:
                self.model.to(device)
            self._keep_eval()

    def distribute(self, mesh: DeviceMesh) -> None:
        """Shard the model over the ranks of ``mesh``, once, if it is to be sharded."""
        if self.shard and isinstance(self.model, nn.Module):
            shard_network(self.model, mesh)

    def release(self) -> None:
        """Move the model back to the CPU; of one that is sharded, free what was gathered."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()
        elif isinstance(self.model, nn.Module):
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
