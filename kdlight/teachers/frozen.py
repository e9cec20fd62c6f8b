"""The live teacher: a network that never learns and is reached by no optimizer or strategy."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from kdlight.checks import check_integer, check_positive
from kdlight.distributed.sharding import shard as shard_network
from kdlight.models.call_network import call_network
from kdlight.models.rotary_frequencies import kept_frequencies
from kdlight.sources import Logits, LogitsSource, Moved, as_source, tempered
from kdlight.teachers.base import Teacher
from kdlight.teachers.cropping import crop_columns
from kdlight.teachers.precision import is_quantized, own_precision, parse_floating_dtype


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
        vocab_size: number of tokens N that student and teacher have in common, with the same ids
            from 0. The logits of both are cropped to their first N columns, for vocabularies that
            are padded to different widths. None compares all columns.

    Raises:
        TypeError: model is not callable, or vocab_size is no integer.
        ValueError: dtype names no floating dtype, device no device, the temperature is not above 0,
            vocab_size is larger than the vocabulary, or options that exclude each other.

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
        dtype: str | torch.dtype | None = None,
        shard: bool = False,
        temperature: float = 1.0,
        device: str | None = None,
        offload: bool = False,
        vocab_size: int | None = None,
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
        if vocab_size is not None:
            check_integer("vocab_size", vocab_size, 1, getattr(model, "vocab_size", None))
        self.model = model
        self.cropped_size = vocab_size
        self.shard = bool(shard)
        self.temperature = float(temperature)
        self.device = None if device is None else _parse_device(device)
        self.offload_between_steps = bool(offload)
        self._run_device: torch.device | None = None
        self._is_offloaded = False
        parsed = None if dtype is None else parse_floating_dtype(dtype)
        self.frozen_parameters: list[nn.Parameter] = []
        self._modes: list[tuple[nn.Module, bool]] = []
        if isinstance(model, nn.Module):
            self.frozen_parameters = [p for p in model.parameters() if p.requires_grad]
            self._modes = [(each, each.training) for each in model.modules()]
            model.eval().requires_grad_(False)
            if parsed is not None:
                with kept_frequencies(model):
                    model.to(parsed)

    def unfreeze(self) -> None:
        """Undo what freezing changed: which parameters are trained, and the training mode."""
        for parameter in self.frozen_parameters:
            parameter.requires_grad_(True)
        for module, mode in self._modes:
            module.training = mode

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Return the network's logits for ``batch``."""
        with torch.no_grad():
            return self.compute(batch)

    def compute(self, batch: Any) -> LogitsSource:
        """Return the same, with a graph of what is trained in the network, such as its masks."""
        self._load()
        home = self.device
        is_elsewhere = home is not None and self._run_device not in (None, home)
        moved = move_data_to_device(batch, home) if home is not None and is_elsewhere else batch
        with own_precision(self.model, moved) as own:
            source = tempered(call_network(self.model, own), self.temperature)
        if self.cropped_size is not None:
            source = crop_columns(source, self.cropped_size)
        if home is None or not is_elsewhere:
            return source
        assert self._run_device is not None
        return Moved(source, home, self._run_device)

    def mask_student(self, student: Logits) -> Logits:
        """Crop the student's logits to ``vocab_size`` columns, if it is set."""
        source = as_source(student)
        size = self.cropped_size
        return student if size is None else crop_columns(source, min(size, source.shape[-1]))

    def student_size(self, size: int) -> int:
        """Return the width of a student's logits after `mask_student`, from their own width."""
        return size if self.cropped_size is None else min(size, self.cropped_size)

    def networks(self) -> list[nn.Module]:
        """Return the network, unless it is a plain function."""
        return [self.model] if isinstance(self.model, nn.Module) else []

    @property
    def vocab_size(self) -> int | None:
        """Width V of the logits, if the network has an attribute ``vocab_size``."""
        return self.cropped_size or getattr(self.model, "vocab_size", None)

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
        if isinstance(self.model, nn.Module) and not is_quantized(self.model):
            self.model.to(device)

    def _keep_eval(self) -> None:
        if isinstance(self.model, nn.Module) and any(m.training for m in self.model.modules()):
            self.model.eval()


def _parse_device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must name a device such as 'cpu' or 'cuda:1', got {name!r}"
        ) from error
