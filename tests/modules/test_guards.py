"""A loss that is not finite, and a student that gets no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

from kdlight.distributed import FSDP2Strategy
from kdlight.modules import NonFiniteLossError
from kdlight.modules.guards import check_gradients, check_sharded
from kdlight.objectives import ForwardKL, LearnableTemperature
from tests.support import toy
from tests.support.own_module import WIDTH, Distilled, net


class SetsNaN(Callback):
    """Sets a weight to NaN before one step."""

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 2:
            with torch.no_grad():
                pl_module.student.head.bias[0] = float("nan")


def test_a_non_finite_loss_stops_the_run_and_saves_its_state(tmp_path: Path) -> None:
    with pytest.raises(
        NonFiniteLossError, match=r"optimizer step 2 is nan.*Check the learning rate"
    ):
        toy.trainer(tmp_path, callbacks=[SetsNaN()]).fit(toy.module(), toy.loader(8))
    saved = torch.load(tmp_path / "non_finite_step=2.ckpt", weights_only=True)
    assert saved["global_step"] == 2


class FullDisk(TorchCheckpointIO):
    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")


def a_file(folder: Path) -> dict[str, Any]:
    (folder / "file").touch()
    return {"default_root_dir": folder / "file"}


CANNOT_WRITE = {
    "disk full": lambda folder: {"plugins": [FullDisk()]},
    "folder is a file": a_file,
}


@pytest.mark.parametrize("options", CANNOT_WRITE.values(), ids=CANNOT_WRITE)
def test_the_loss_is_told_even_if_its_state_cannot_be_saved(options: Any, tmp_path: Path) -> None:
    run = toy.trainer(tmp_path, callbacks=[SetsNaN()], **options(tmp_path))
    with pytest.raises(NonFiniteLossError, match=r"optimizer step 2 is nan.*could not be saved"):
        run.fit(toy.module(), toy.loader(8))


def test_a_student_without_gradients_raises() -> None:
    student = toy.ToyLM()
    with pytest.raises(RuntimeError, match=r"no gradient reached the sharded student \(ToyLM\)"):
        check_gradients(student)
    student.head.bias.grad = torch.zeros(toy.VOCABULARY)
    check_gradients(student)


class HookedNaN(Callback):
    """Makes one gradient infinite, behind a finite loss."""

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step == 2:
            pl_module.student.head.bias.grad[0] = float("inf")


@pytest.mark.parametrize("normalization", ["global", "local"])
def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step(
    normalization: Any, tmp_path: Path
) -> None:
    module = toy.module(normalization=normalization)
    with pytest.raises(NonFiniteLossError, match=r"step 2 is \d.*its gradients are not finite"):
        toy.trainer(tmp_path, callbacks=[HookedNaN()]).fit(module, toy.loader(8))
    saved = torch.load(tmp_path / "non_finite_step=2.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in saved.values())


class Unsharded(Distilled):
    """The mixin over a module that does not shard its network."""


class Sharded(Distilled):
    def configure_model(self) -> None:
        super().configure_model()
        fully_shard(self.net, mesh=self.device_mesh["data_parallel"])  # type: ignore[index]


@pytest.fixture
def process_group() -> Iterator[None]:
    """Close the process group that a strategy opens in this process."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_network_that_fsdp2_does_not_shard_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": FSDP2Strategy(), "devices": 1, "max_steps": 1}
    loader = DataLoader(TensorDataset(torch.randn(4, WIDTH), torch.zeros(4).long()), 2)
    module = Unsharded().distill(ForwardKL(), net(9, seed=2))
    with pytest.raises(RuntimeError, match=r"FSDP2 is to train net.0.weight.*not sharded"):
        toy.trainer(tmp_path, **options).fit(module, loader)
    options["strategy"] = FSDP2Strategy()
    module = Sharded().distill(ForwardKL(), net(9, seed=2))
    # after the sanity check, weights are gathered
    toy.trainer(tmp_path, **options, num_sanity_val_steps=1).fit(module, loader, loader)


def test_parameters_of_an_objective_need_not_be_sharded() -> None:
    objective = LearnableTemperature()
    check_sharded([nn.ModuleList([objective])], [objective])
    with pytest.raises(RuntimeError, match="not sharded"):
        check_sharded([nn.ModuleList([objective])], [])
