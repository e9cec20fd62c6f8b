"""A step on fake tensors has the sizes of a real one, and needs no values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from kdlight import DistillationModule
from kdlight.doctor import examine
from kdlight.objectives import ForwardKL
from kdlight.sources import LogitsSource, TopK
from kdlight.teachers import Teacher
from tests.support import toy
from tests.support.doctor_runs import known, make_data, make_module


class Stored(Teacher):
    """A teacher that looks its answers up by the numbers of a batch, as one in a file does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def answer(self, batch: Any, student: Any = None, labels: Any = None) -> LogitsSource:
        ids: Tensor = batch["input_ids"]
        assert int(ids.sum()) > 0  # a tensor without numbers would raise
        first = torch.zeros(*ids.shape, 1)
        return TopK(first.long(), first - 1, toy.VOCABULARY)

    def prepare(self, device: torch.device) -> None: ...

    def release(self) -> None: ...


def test_a_stored_teacher(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(bytes(5 * 2**20))
    module = DistillationModule(
        student=toy.ToyLM(), teacher=Stored(tmp_path), objective=ForwardKL()
    )
    data = toy.RaggedModule(4, count=4, length=10, silent=())
    report = examine(module, data, toy.trainer(tmp_path))
    assert report.errors == report.warnings == []
    (row,) = (each for each in report.rows if each.name.startswith("teacher"))
    (made,) = (each.bytes for each in report.rows if each.name == "logits of the teacher, dense")
    ids_and_log_probs, rows = 4 * 10 * (8 + 4), 4 * 9 * toy.VOCABULARY * 4
    assert made == ids_and_log_probs + rows
    assert (row.name, row.bytes) == ("teacher, Stored", 0)
    assert row.note.startswith("5.0 MiB in ")
    assert isinstance(module.teacher, Stored)


@pytest.mark.parametrize("network", ["toy", "plain", "llama"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_activations_are_what_autograd_keeps(network: str, precision: str, tmp_path: Path) -> None:
    """Within a fifth: without numbers, torch may choose another kernel for attention."""
    trainer = toy.trainer(tmp_path, precision=precision)
    estimate = known(examine(make_module(network), make_data(), trainer), "activations (estimate)")
    module = make_module(network)
    trainer.precision_plugin.convert_module(module)
    batch = toy.pad([make_data().data[index] for index in range(16)])
    own = {p.untyped_storage()._cdata for p in [*module.parameters(), *batch.values()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with trainer.precision_plugin.forward_context(), saved_tensors_hooks(keep, lambda t: t):
        module.student(batch)
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert estimate == pytest.approx(held, rel=0.2)
