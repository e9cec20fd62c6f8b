"""A training step on fake tensors: shapes of logits and bytes of activations, without compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from kdlight.doctor.run_environment import RunEnvironment
from kdlight.modules.base import DistillationBase
from kdlight.objectives import LossInputs
from kdlight.teachers import Teacher


@dataclass(frozen=True)
class FakeStep:
    """The result of a step on one micro-batch of fake tensors.

    Attributes:
        inputs: the inputs of the objective; its logits have shapes and dtypes, but no values.
        activations: bytes that the student's forward pass keeps for the backward pass, without
            weights and the batch.
    """

    inputs: LossInputs
    activations: int


def fake_step(module: DistillationBase, batch: Any, environment: RunEnvironment) -> FakeStep:
    """Run ``module.loss_inputs`` on fake tensors, which have shapes and dtypes, but no values.

    The code of the module and of the networks runs. Nothing is computed, and no memory of the size
    of weights or activations is allocated.

    Raises:
        Exception: whatever this code raises, and a RuntimeError where it reads values.
    """
    module.aligned_labels(batch)  # finds out where labels stand, by their values
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    step = _LossInputsStep(module)
    weights = _fake_weights(step, mode, environment.weight_dtype)
    with mode:
        fake_batch = apply_to_collection(batch, Tensor, _fake, mode, environment.weight_dtype)
    known: list[Tensor] = list(weights.values())
    apply_to_collection(fake_batch, Tensor, known.append)
    saved = _SavedTensors(known)
    with (
        _stored_answer(module, batch),
        _without_plan(module),
        mode,
        saved.hooks(),
        _autocast(environment),
    ):
        inputs: LossInputs = functional_call(step, weights, (fake_batch,))
    return FakeStep(inputs, saved.bytes)


def real_step(module: DistillationBase, batch: Any, environment: RunEnvironment) -> LossInputs:
    """Run the step with values, to find out if an error comes from the run or the fake tensors."""
    with torch.no_grad(), _autocast(environment):
        return module.loss_inputs(batch)


def live_networks(teacher: Any) -> list[nn.Module]:
    """Return the networks of a teacher that are in memory."""
    return teacher.networks() if isinstance(teacher, Teacher) else []


class _LossInputsStep(nn.Module):
    """Student, objective and teacher in one module tree, so that all weights can be replaced."""

    def __init__(self, module: DistillationBase) -> None:
        super().__init__()
        self.module = module
        self.teachers = nn.ModuleList(live_networks(module.teacher))

    def forward(self, batch: Any) -> LossInputs:
        return self.module.loss_inputs(batch)


@contextmanager
def _stored_answer(module: DistillationBase, batch: Any) -> Iterator[None]:
    """Read the answer of a cached teacher beforehand: it needs the values of the batch."""
    teacher = module.teacher
    if teacher is None or live_networks(teacher):
        yield
        return
    teacher.prepare(torch.device("cpu"))
    answer = module.teacher_logits(batch)
    module.teacher = lambda _: answer  # type: ignore[assignment]
    try:
        yield
    finally:
        module.teacher = teacher
        teacher.release()


@contextmanager
def _without_plan(module: DistillationBase) -> Iterator[None]:
    """Do not read values on the first batch, such as the number of valid positions."""
    is_first, module.is_first_batch = module.is_first_batch, False
    try:
        yield
    finally:
        module.is_first_batch = is_first


def _fake_weights(
    step: _LossInputsStep, mode: FakeTensorMode, weight_dtype: torch.dtype | None
) -> dict[str, Tensor]:
    fakes: dict[int, Tensor] = {}  # by the id of the tensor, so that tied weights stay tied
    named = [
        *step.named_parameters(remove_duplicate=False),
        *step.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        if id(tensor) not in fakes:
            dtype = weight_dtype if name.startswith("module.") else None  # a teacher keeps its own
            fake = _fake(tensor, mode, dtype)
            fakes[id(tensor)] = fake.requires_grad_(tensor.requires_grad)
    return {name: fakes[id(tensor)] for name, tensor in named}


def _fake(tensor: Tensor, mode: FakeTensorMode, dtype: torch.dtype | None) -> Tensor:
    fake = mode.from_tensor(tensor).detach()
    return fake.to(dtype) if dtype is not None and fake.is_floating_point() else fake


def _autocast(environment: RunEnvironment) -> AbstractContextManager:
    dtype = environment.autocast_dtype
    return torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None)


class _SavedTensors:
    """Counts the bytes of the storages that autograd saves, each once."""

    def __init__(self, known: list[Tensor]) -> None:
        self.bytes = 0
        self._counted = {tensor.untyped_storage()._cdata for tensor in known}
        self._kept: list[Tensor] = []  # keeps storages alive, or an address could be used again

    def hooks(self) -> saved_tensors_hooks:
        return saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._counted:
            self._counted.add(storage._cdata)
            self._kept.append(tensor)
            self.bytes += storage.nbytes()
        return tensor
