"""The live teacher: a network that never learns and is reached by no optimizer or strategy."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from kdlight.checks import check_positive
from kdlight.distributed.sharding import shard as shard_network
from kdlight.sources import Logits, LogitsSource, Moved, as_source, call_network, tempered
from kdlight.teachers.base import Teacher


class FrozenTeacher(Teacher):
    """A live network in eval mode and without gradients.

    It is deliberately no `torch.nn.Module`: a module that holds it has no teacher among its
    parameters, checkpoint keys, optimizer groups or averaged copies, ``train()`` does not reach it,
    and a strategy does not wrap it. It keeps its own dtype.

    Where the student is sharded with FSDP2, ``shard`` shards the teacher, too: each rank holds a
    part of every layer and gathers a layer while it runs. Embeddings and output head are gathered
    once, at the first batch, and stay gathered until the run ends.

    A network that is quantized while it is loaded (``model_kwargs`` of `kdlight.CausalLM`) is
    neither moved nor cast.

    Args:
        model: maps a batch to logits or a logits source, such as `kdlight.CausalLM`.
        dtype: name of the dtype of the weights, such as ``"bfloat16"``; None leaves them.
        shard: shard the weights over ranks, with `kdlight.distributed.FSDP2Strategy`. False keeps
            them whole on every rank, which is faster where they fit.
        temperature: divides the logits, above 0; above 1 flattens the distribution.
        device: device of the network, such as ``"cpu"`` beside a student on a GPU; None for the
            device of the run.
        offload: move to the CPU before every optimizer step and back with the next batch, for a
            teacher and an optimizer state that do not fit together.

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
        check_positive("temperature", temperature)
        self.model = model
        self.shard = bool(shard)
        self.temperature = float(temperature)
        self.device = None if device is None else torch.device(device)
        self.offload_between_steps = bool(offload)
        self._run_device: torch.device | None = None
        self._is_offloaded = False
        if isinstance(model, nn.Module):
            model.eval().requires_grad_(False)
            if dtype is not None:
                model.to(_parse_dtype(dtype))

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Return the network's logits for ``batch``."""
        self._load()
        with torch.no_grad():
            if self.device is None or self._run_device in (None, self.device):
                return tempered(as_source(call_network(self.model, batch)), self.temperature)
            assert self._run_device is not None
            moved = move_data_to_device(batch, self.device)
            source = tempered(as_source(call_network(self.model, moved)), self.temperature)
            return Moved(source, self.device, self._run_device)

    def networks(self) -> list[nn.Module]:
        """Return the network, unless it is a plain function."""
        return [self.model] if isinstance(self.model, nn.Module) else []

    @property
    def vocab_size(self) -> int | None:
        """Width V of the logits, if the network has an attribute ``vocab_size``."""
        return getattr(self.model, "vocab_size", None)

    @property
    def is_sharded(self) -> bool:
        """Whether the network is to be sharded over ranks."""
        return self.shard

    def prepare(self, device: torch.device) -> None:
        """Move the network to ``device``; one that is to be sharded is moved part by part."""
        self._run_device = device
        if isinstance(self.model, nn.Module):
            if not self.shard:
                self._move(self.device or device)
            self._keep_eval()

    def distribute(self, mesh: DeviceMesh) -> None:
        """Shard the network over the ranks of ``mesh``, once, if it is to be sharded."""
        if self.shard and isinstance(self.model, nn.Module):
            shard_network(self.model, mesh)

    def offload(self) -> None:
        """Move the network to the CPU until the next batch, if configured."""
        if self.offload_between_steps and not self._is_offloaded:
            self._move(torch.device("cpu"))
            self._is_offloaded = True

    def release(self) -> None:
        """Move the network to the CPU; of a sharded one free what was gathered."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()
        else:
            self._move(torch.device("cpu"))

    def _load(self) -> None:
        if self._is_offloaded and (self.device or self._run_device) is not None:
            self._move(self.device or self._run_device)
            self._is_offloaded = False
        self._keep_eval()

    def _move(self, device: torch.device | None) -> None:
        if isinstance(self.model, nn.Module) and not _is_quantized(self.model):
            self.model.to(device)

    def _keep_eval(self) -> None:
        if isinstance(self.model, nn.Module) and any(m.training for m in self.model.modules()):
            self.model.eval()


def as_teacher(teacher: nn.Module | Teacher | None) -> Teacher | None:
    """Wrap a network in a `FrozenTeacher`; return a teacher, or None, unchanged.

    Example:
        >>> type(as_teacher(torch.nn.Linear(3, 5))).__name__
        'FrozenTeacher'
    """
    return teacher if teacher is None or isinstance(teacher, Teacher) else FrozenTeacher(teacher)


def frozen_teachers(teacher: Teacher | None) -> list[FrozenTeacher]:
    """Return the live teachers within ``teacher``.

    Example:
        >>> from kdlight import TeacherEnsemble
        >>> ensemble = TeacherEnsemble({"a": nn.Linear(3, 5), "b": nn.Linear(3, 5)})
        >>> len(frozen_teachers(ensemble))
        2
    """
    if teacher is None:
        return []
    if isinstance(teacher, FrozenTeacher):
        return [teacher]
    return [each for inner in teacher.teachers() for each in frozen_teachers(inner)]


def _is_quantized(model: nn.Module) -> bool:
    """Whether a library placed the weights itself and does not allow to move them."""
    return any(getattr(each, "hf_quantizer", None) is not None for each in model.modules())


def _parse_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must name a floating torch dtype such as 'bfloat16', got {name!r}")
    return dtype
