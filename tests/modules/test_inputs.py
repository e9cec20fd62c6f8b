"""From a batch to the inputs of a loss, and the lifecycle of the teacher."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from kdlight import DistillationModule, SingleInput, TeacherEnsemble
from kdlight.distributed import exchange_sizes
from kdlight.objectives import CrossEntropy, ForwardKL
from kdlight.teachers import FrozenTeacher
from tests.support import toy
from tests.support.gloo import run_on_ranks


@pytest.fixture
def batch() -> dict[str, Any]:
    return next(iter(toy.loader(3)))


def test_a_fit_logs_once_how_logits_are_computed(tmp_path, caplog):
    toy.trainer(tmp_path, max_steps=3).fit(toy.module(), toy.loader(4))
    toy.trainer(tmp_path, max_steps=3).fit(toy.module(chunked=True), toy.loader(4))
    logged = [line for line in caplog.messages if line.startswith("kdlight: logits")]
    assert [line.split("are computed ")[1].split(" (")[0].split(" of ")[0] for line in logged] == [
        "at once",
        "in chunks",
    ]


def test_labels_are_shifted_and_masked_once(batch: dict[str, Any]) -> None:
    inputs = toy.module().loss_inputs(batch)
    expected = batch["labels"].roll(-1, 1)
    expected[:, -1] = -100
    assert inputs.labels is not None
    assert torch.equal(inputs.labels, expected)
    assert inputs.mask is not None
    assert torch.equal(inputs.mask, expected != -100)


def test_optional_fields_are_read_from_a_batch_that_is_a_mapping(batch: dict[str, Any]) -> None:
    fields = {
        "index": torch.tensor([7, 0, 3]),
        "rejected": torch.tensor([True, False, True]),
        "span_ids": torch.zeros_like(batch["labels"]),
        "teacher_mask": batch["labels"] > 2,
    }
    module = toy.module()
    inputs = module.loss_inputs({**batch, **fields, "other": 5})
    for name, value in fields.items():
        assert getattr(inputs, name) is value
    without = module.loss_inputs(batch)
    assert all(getattr(without, name) is None for name in fields)


def test_a_batch_that_is_no_mapping_has_no_optional_fields() -> None:
    networks = (SingleInput(nn.Linear(4, 3)) for _ in range(2))
    module = DistillationModule(next(networks), ForwardKL(), next(networks))
    inputs = module.loss_inputs((torch.zeros(2, 4), torch.tensor([1, -100])))
    assert inputs.mask is not None
    assert inputs.mask.tolist() == [True, False]
    assert inputs.index is None
    assert inputs.position_name == "sample"


def test_the_teachers_of_an_ensemble_are_in_the_inputs_by_name(batch: dict[str, Any]) -> None:
    module = toy.module(ForwardKL())
    networks = {"large": toy.ToyLM(12, seed=2), "small": toy.ToyLM(4, seed=3)}
    module.teacher = TeacherEnsemble(networks)
    inputs = module.loss_inputs(batch)
    assert [*inputs.teachers] == ["large", "small"]
    for name, network in networks.items():
        assert torch.equal(inputs.teachers[name].logits(), network(batch).logits())
    assert inputs.teacher is not None
    assert inputs.valid_teacher_mask is inputs.mask
    assert toy.module().loss_inputs(batch).teachers == {}


def test_the_teacher_is_not_evaluated_where_training_does_not_need_it(
    batch: dict[str, Any],
) -> None:
    module = toy.module(CrossEntropy())
    module.train()
    assert module.loss_inputs(batch).teacher is None
    module.eval()  # metrics compare with the teacher
    assert module.loss_inputs(batch).teacher is not None


class Recording(FrozenTeacher):
    """Records the calls of its lifecycle."""

    def __init__(self) -> None:
        super().__init__(toy.ToyLM(12, seed=2))
        self.calls: list[str] = []

    def prepare(self, device: torch.device) -> None:
        self.calls.append(f"prepare {device}")

    def offload(self) -> None:
        self.calls.append("offload")

    def release(self) -> None:
        self.calls.append("release")


def test_the_teacher_is_prepared_offloaded_before_steps_and_released(tmp_path: Path) -> None:
    module = toy.module(ForwardKL())
    module.teacher = teacher = Recording()
    run = toy.trainer(tmp_path, accumulate_grad_batches=2)
    run.fit(module, toy.loader(8))
    assert teacher.calls == ["prepare cpu", "offload", "offload", "release"]


# ---- groups of ranks


def check_groups(rank: int) -> None:
    """Two modules in one process, under different meshes, and one under none."""
    names = ("data_parallel", "tensor_parallel")
    meshes = [init_device_mesh("cpu", sizes, mesh_dim_names=names) for sizes in ((2, 1), (1, 2))]
    batch = {"input_ids": torch.zeros(rank + 1, 3, dtype=torch.long)}
    counts = []
    for mesh in (*meshes, None, *meshes):
        module = toy.module(ForwardKL())
        module._device_mesh = mesh
        module._trainer = SimpleNamespace()  # type: ignore[assignment]
        inputs = module.make_loss_inputs(batch, torch.zeros(rank + 1, 3, 5), None)
        (sizes,) = exchange_sizes([rank + 1], torch.device("cpu"), group=inputs.group)
        counts.append(sizes.counts)
    assert counts == [(1, 2), (rank + 1,), (1, 2), (1, 2), (rank + 1,)]


@pytest.mark.slow
def test_two_modules_of_a_process_do_not_share_a_group(tmp_path: Path) -> None:
    run_on_ranks(check_groups, tmp_path)
