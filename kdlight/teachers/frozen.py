"""The live teacher: a network that never learns, and that nobody can reach by accident."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from kdlight.logits import LogitsSource, as_source, ask
from kdlight.sharding import shard as shard_network
from kdlight.teachers.base import TeacherBase
from kdlight.teachers.sources import Moved, check_temperature, move, tempered


class FrozenTeacher(TeacherBase):
    """A live model that answers in eval mode and without gradients, whatever anybody calls.

    It is no `torch.nn.Module`, and that is the point: a module that holds it has no teacher among
    its parameters, checkpoint keys, optimizer groups or averaged copies, ``train()`` does not
    reach it, and a strategy does not wrap it. It keeps its own dtype.

    Where the student is sharded with FSDP2, ``shard`` divides the teacher too: each rank holds its
    part of every layer and gathers a layer while it runs. Embeddings and output head are gathered
    once, at the first batch, and stay so until the run is over.

    A model that is quantised when it is loaded (``model_kwargs`` of `kdlight.CausalLM`) stays as
    and where its library put it.

    Args:
        model: maps a batch to logits or a logits source, such as `kdlight.CausalLM`.
        dtype: name of a dtype to hold the weights in, ``"bfloat16"``; None leaves them.
        shard: divide the weights among the ranks, with `kdlight.modules.FSDP2Strategy`. False
            keeps them whole on every rank, which is quicker where they fit.
        temperature: divides the logits, above 0: a teacher above 1 is less sure.
        device: where the model lives and works, such as ``"cpu"`` beside a student on a GPU; None
            for the device of the run.
        offload: leave the device before every optimizer step, and come back with the next batch.
            For a teacher and an optimizer state that do not fit together.

    Raises:
        TypeError: model is not callable.
        ValueError: dtype names no floating dtype, the temperature is not above 0, or options that
            exclude each other.

    Example:
        >>> net = torch.nn.Linear(3, 5)
        >>> teacher = FrozenTeacher(net)
        >>> teacher(torch.zeros(2, 3)).shape, net.weight.requires_grad
        (torch.Size([2, 5]), False)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dtype: str | None = None,
        shard: bool = False,
        temperature: float = 1.0,
        device: str | None = None,
        offload: bool = False,
    ) -> None:
        if not callable(model):
            raise TypeError(
                f"model must be callable, from a batch to logits, got {type(model).__name__}"
            )
        if shard and (device is not None or offload):
            raise ValueError(
                "shard=True divides the weights among the devices of the ranks; leave device and"
                " offload alone, or set shard=False"
            )
        self.model = model
        self.shard = bool(shard)
        self.temperature = check_temperature(temperature)
        self.device = None if device is None else torch.device(device)
        self.offload = bool(offload)
        self._run_device: torch.device | None = None
        self._resting = False
        if isinstance(model, nn.Module):
            model.eval().requires_grad_(False)
            if dtype is not None:
                model.to(_dtype(dtype))

    def __call__(self, batch: Any) -> LogitsSource:
        """Logits for ``batch``."""
        self._wake()
        with torch.no_grad():
            if self.device is None or self._run_device in (None, self.device):
                return tempered(as_source(ask(self.model, batch)), self.temperature)
            assert self._run_device is not None
            source = as_source(ask(self.model, move(batch, self.device)))
            return Moved(tempered(source, self.temperature), self.device, self._run_device)

    def prepare(self, device: torch.device) -> None:
        """Move the model to ``device``; one that is to be sharded goes there part by part."""
        self._run_device = device
        if isinstance(self.model, nn.Module):
            if not self.shard:
                self._move(self.device or device)
            self._keep_eval()

    def distribute(self, mesh: DeviceMesh) -> None:
        """Shard the model over the ranks of ``mesh``, once, if it is to be sharded."""
        if self.shard and isinstance(self.model, nn.Module):
            shard_network(self.model, mesh)

    def rest(self) -> None:
        """Leave the device until the next batch, if ``offload`` asks for it."""
        if self.offload and not self._resting:
            self._move(torch.device("cpu"))
            self._resting = True

    def release(self) -> None:
        """Move the model back to the CPU; of one that is sharded, free what was gathered."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()
        else:
            self._move(torch.device("cpu"))

    def live(self) -> Iterator[FrozenTeacher]:
        """Itself."""
        yield self

    def _wake(self) -> None:
        if self._resting and (self.device or self._run_device) is not None:
            self._move(self.device or self._run_device)
            self._resting = False
        self._keep_eval()

    def _move(self, device: torch.device | None) -> None:
        if isinstance(self.model, nn.Module) and not _is_quantised(self.model):
            self.model.to(device)

    def _keep_eval(self) -> None:
        if isinstance(self.model, nn.Module) and any(m.training for m in self.model.modules()):
            self.model.eval()


def _is_quantised(model: nn.Module) -> bool:
    """Whether a library placed the weights itself, and takes it ill when they are moved."""
    return any(getattr(each, "hf_quantizer", None) is not None for each in model.modules())


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must name a floating torch dtype such as 'bfloat16', got {name!r}")
    return dtype
