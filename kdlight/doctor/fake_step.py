"""A training step without numbers: which logits come out, and what the backward pass will need."""

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

from kdlight.doctor.setting import Setting
from kdlight.modules import StandaloneModule
from kdlight.objectives import LossInputs
from kdlight.teachers import Teacher


@dataclass(frozen=True)
class DryStep:
    """What a step on one micro-batch comes to.

    Attributes:
        step: sources of logits that have shapes and dtypes, and no numbers.
        activations: bytes kept from the student's forward pass for its backward pass, weights and
            the batch left out.
    """

    step: LossInputs
    activations: int


def dry_step(module: StandaloneModule, batch: Any, setting: Setting) -> DryStep:
    """Run ``module.step`` on tensors that know their shapes and hold nothing.

    It is the module's own code, and that of the networks, which runs; nothing is computed and
    nothing of the size of a weight or an activation is allocated.

    Raises:
        Exception: whatever the code raises, and a RuntimeError where it looks at numbers.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    stepper = _Stepper(module)
    weights = _without_numbers(stepper, mode, setting.held_in)
    with mode:
        inputs = apply_to_collection(batch, Tensor, _converted, mode, setting.held_in)
    known: list[Tensor] = list(weights.values())
    apply_to_collection(inputs, Tensor, known.append)
    saved = _Saved(known)
    with _answered(module, batch), _silent(module), mode, saved.hooks(), _autocast(setting):
        step: LossInputs = functional_call(stepper, weights, (inputs,))
    return DryStep(step, saved.bytes)


def real_step(module: StandaloneModule, batch: Any, setting: Setting) -> LossInputs:
    """The same with numbers, to tell what is wrong with a run from what a dry step cannot do."""
    with torch.no_grad(), _autocast(setting):
        return module.loss_inputs(batch)


def live_networks(teacher: Any) -> list[nn.Module]:
    """The networks of a teacher that are in memory."""
    return teacher.networks() if isinstance(teacher, Teacher) else []


class _Stepper(nn.Module):
    """Student, objective and teacher in one tree, so that all weights can be exchanged."""

    def __init__(self, module: StandaloneModule) -> None:
        super().__init__()
        self.module = module
        self.teachers = nn.ModuleList(live_networks(module.teacher))

    def forward(self, batch: Any) -> LossInputs:
        return self.module.loss_inputs(batch)


@contextmanager
def _answered(module: StandaloneModule, batch: Any) -> Iterator[None]:
    """Ask a teacher that looks its answers up before: it needs the numbers of the batch."""
    teacher = module.teacher
    if teacher is None or live_networks(teacher):
        yield
        return
    teacher.prepare(torch.device("cpu"))
    answer = teacher(batch)
    module.teacher = lambda _: answer  # type: ignore[assignment]
    try:
        yield
    finally:
        module.teacher = teacher
        teacher.release()


@contextmanager
def _silent(module: StandaloneModule) -> Iterator[None]:
    """Do not log the plan of the logits, which needs the number of valid positions."""
    log_plan, module.log_plan = module.log_plan, False
    try:
        yield
    finally:
        module.log_plan = log_plan


def _without_numbers(
    stepper: _Stepper, mode: FakeTensorMode, held_in: torch.dtype | None
) -> dict[str, Tensor]:
    made: dict[int, Tensor] = {}  # what is tied stays tied
    named = [
        *stepper.named_parameters(remove_duplicate=False),
        *stepper.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        if id(tensor) not in made:
            dtype = held_in if name.startswith("module.") else None  # a teacher keeps its own
            fake = _converted(tensor, mode, dtype)
            made[id(tensor)] = fake.requires_grad_(tensor.requires_grad)
    return {name: made[id(tensor)] for name, tensor in named}


def _converted(tensor: Tensor, mode: FakeTensorMode, held_in: torch.dtype | None) -> Tensor:
    fake = mode.from_tensor(tensor).detach()
    return fake.to(held_in) if held_in is not None and fake.is_floating_point() else fake


def _autocast(setting: Setting) -> AbstractContextManager:
    dtype = setting.autocast
    return torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None)


class _Saved:
    """Adds up the storages that autograd keeps, each once."""

    def __init__(self, known: list[Tensor]) -> None:
        self.bytes = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}
        self._kept: list[Tensor] = []  # or an address may be used again

    def hooks(self) -> saved_tensors_hooks:
        return saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._kept.append(tensor)
            self.bytes += storage.nbytes()
        return tensor
