"""The sizes that the doctor tells, beside what torch holds in a fit of the same run."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from kdlight import DistillationModule, FrozenTeacher
from kdlight.doctor import Report, Setting, examine
from kdlight.doctor.optimizer_state import state_bytes
from kdlight.doctor.sharing import Sharing, sharing
from kdlight.doctor.sizes import Row
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import ForwardKL
from tests.support import toy

OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "AdamW": {"lr": 1e-3},
    "Adafactor": {"lr": 1e-3},  # looks at numbers, and keeps rows and columns
    "Adagrad": {"lr": 1e-3},
}


def run(network: str, optimizer: str = "AdamW", **options: Any) -> DistillationModule:
    make, kind = toy.NETWORKS[network], getattr(torch.optim, optimizer)
    return DistillationModule(
        student=make(32, seed=1),
        teacher=FrozenTeacher(make(48, seed=2), dtype="bfloat16"),
        objective=ForwardKL(),
        optimizer=lambda groups: kind(groups, **OPTIMIZERS[optimizer]),
        **options,
    )


def data() -> toy.RaggedModule:
    return toy.RaggedModule(batch_size=16, count=16, silent=(), length=32)


def rows(report: Report) -> dict[str, Row]:
    return {row.name: row for row in report.rows}


def known(report: Report, name: str) -> int:
    """The bytes of one row, which are known."""
    count = rows(report)[name].bytes
    assert count is not None
    return count


class Weigh(Callback):
    """Notes what is held before the optimizer's step."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradients = sum(p.grad.nbytes for p in pl_module.parameters() if p.grad is not None)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_gradients_and_optimizer_state_are_those_of_a_fit(
    optimizer: str, tmp_path: Path
) -> None:
    report = examine(run("toy", optimizer), data(), toy.trainer(tmp_path))
    weigh, module = Weigh(), run("toy", optimizer)
    trainer = toy.trainer(tmp_path, callbacks=[weigh], max_steps=1)
    trainer.fit(module, datamodule=data())
    (made,) = trainer.optimizers
    state = [v for kept in made.state.values() for v in kept.values() if isinstance(v, Tensor)]
    assert report.errors == []
    weights = sum(p.nbytes for p in module.student.parameters())
    assert known(report, "weights, trained") == weights
    assert known(report, "gradients") == weigh.gradients == weights
    assert known(report, "optimizer state") == sum(value.nbytes for value in state)
    assert isinstance(module.teacher, FrozenTeacher)
    teacher = module.teacher.model
    assert known(report, "teacher, weights") == sum(p.nbytes for p in teacher.parameters())
    assert rows(report)["teacher, weights"].note == "bfloat16"


@pytest.mark.parametrize("network", ["toy", "plain", "llama"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_activations_are_what_autograd_keeps(network: str, precision: str, tmp_path: Path) -> None:
    """Within a fifth: without numbers, torch may choose another kernel for attention."""
    trainer = toy.trainer(tmp_path, precision=precision)
    told = known(examine(run(network), data(), trainer), "activations (estimate)")
    module = run(network)
    trainer.precision_plugin.convert_module(module)
    batch = toy.pad([data().data[index] for index in range(16)])
    own = {p.untyped_storage()._cdata for p in [*module.parameters(), *batch.values()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with trainer.precision_plugin.forward_context(), saved_tensors_hooks(keep, lambda t: t):
        module.student(batch)
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert told == pytest.approx(held, rel=0.2)


def test_a_step_takes_about_what_was_told(tmp_path: Path) -> None:
    """The peak of what torch allocates in a step, within a factor of two."""
    report = examine(run("toy"), data(), toy.trainer(tmp_path))
    module = run("toy")
    batch = toy.pad([data().data[index] for index in range(16)])
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        module.objective(module.loss_inputs(batch)).total.backward()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()  # type: ignore[attr-defined]
            peak = max(peak, held)
    step = ("gradients", "activations (estimate)", "logits of the student, dense")
    told = sum(known(report, name) for name in (*step, "logits of the teacher, dense"))
    assert peak / 2 < told < peak * 2, (told, peak)


def test_looking_changes_no_weight(tmp_path: Path) -> None:
    module = run("llama")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    examine(module, data(), toy.trainer(tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_that_makes_no_step_by_itself_is_not_guessed() -> None:
    assert state_bytes(torch.optim.LBFGS(nn.Linear(3, 2).parameters())) is None


RANKS = {
    "ddp": ("ddp", Sharing(buckets=True)),
    "one device": ("auto", Sharing()),
    "fsdp2": (FSDP2Strategy(), Sharing(4, 4, 4, 4, gathers=True)),
    "fsdp2, two by two": (
        FSDP2Strategy(tensor_parallel_size=2),
        Sharing(2, 2, 2, 2, gathers=True),
    ),
}


@pytest.mark.parametrize(("strategy", "expected"), RANKS.values(), ids=RANKS)
def test_what_ranks_share(strategy: Any, expected: Sharing, tmp_path: Path) -> None:
    devices = 1 if strategy == "auto" else 4
    trainer = toy.trainer(tmp_path, devices=devices, strategy=strategy)
    assert sharing(Setting.of(trainer)) == expected
    alone = rows(examine(run("toy"), data(), toy.trainer(tmp_path)))
    shared = rows(examine(run("toy"), data(), trainer))
    for name in ("weights, trained", "gradients", "optimizer state"):
        whole = alone[name].bytes
        assert whole is not None
        assert shared[name].bytes == whole // expected.optimizer
    assert ("gradients, in DDP's buckets" in shared) == expected.buckets
    assert ("student, gathered to be used" in shared) == expected.gathers
