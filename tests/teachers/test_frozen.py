"""The live teacher: where its network is, its dtype, and when it is moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdlight import FrozenTeacher
from kdlight.objectives import ForwardKL
from tests.support import toy


class RecordsMoves(nn.Linear):
    """A layer that records the devices that it is moved to."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.devices: list[str] = []

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.devices.append(str(args[0]))
        return self


def test_an_offloaded_teacher_returns_with_the_next_batch(tmp_path: Path) -> None:
    network = RecordsMoves()
    teacher = FrozenTeacher(network, offload=True)
    teacher.prepare(torch.device("meta"))
    teacher(torch.zeros(2, 3))
    teacher.offload()
    teacher.offload()
    teacher(torch.zeros(2, 3))
    assert network.devices == ["meta", "cpu", "meta"]
    not_configured = FrozenTeacher(RecordsMoves())
    not_configured.offload()
    assert not_configured.model.devices == []
    # a fit offloads before every optimizer step
    module = toy.module(ForwardKL())
    module.teacher = FrozenTeacher(toy.ToyLM(12, seed=2), offload=True)
    moves = []
    module.teacher._move = lambda device: moves.append(str(device))  # type: ignore[method-assign]
    toy.trainer(tmp_path).fit(module, datamodule=toy.RaggedModule(16))
    assert len(moves) == 6  # prepare; offload, load, offload; load in validation; release


def test_only_logits_leave_the_device_of_the_teacher() -> None:
    network = nn.Linear(3, 4)
    teacher = FrozenTeacher(network, device="cpu")
    teacher.prepare(torch.device("meta"))
    source = teacher(torch.zeros(2, 3))
    assert source.shape == (2, 4)
    assert source.logits().device.type == "meta"
    assert network.weight.device.type == "cpu"
    with pytest.raises(ValueError, match="set shard=False"):
        FrozenTeacher(network, device="cpu", shard=True)


def test_a_quantized_teacher_is_not_moved() -> None:
    network = RecordsMoves()
    vars(network)["hf_quantizer"] = object()  # which transformers sets on a quantized model
    teacher = FrozenTeacher(network)
    teacher.prepare(torch.device("meta"))
    teacher.release()
    assert network.devices == []


def test_the_teacher_keeps_its_dtype() -> None:
    module = toy.module(ForwardKL())
    module.teacher = FrozenTeacher(toy.ToyLM(seed=2), dtype="bfloat16")
    module.double()
    assert {p.dtype for p in module.student.parameters()} == {torch.float64}
    assert {p.dtype for p in module.teacher.model.parameters()} == {torch.bfloat16}


def test_a_frozen_teacher_is_constant() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9))
    teacher = FrozenTeacher(network, temperature=2.0)
    network.train()  # as a caller may do at any time
    logits = teacher(torch.ones(2, 3)).logits()
    assert not network.training
    assert not logits.requires_grad
    assert torch.equal(logits, network[0](torch.ones(2, 3)) / 2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"model": 5}, TypeError, "model must be callable, from a batch to logits, got int"),
        ({"dtype": "int8"}, ValueError, "dtype must name a floating torch dtype .* got 'int8'"),
        ({"dtype": "Tensor"}, ValueError, "dtype must name a floating torch dtype"),
        ({"temperature": 0.0}, ValueError, "temperature must be above 0"),
        ({"shard": True, "offload": True}, ValueError, "leave device and offload alone"),
    ],
)
def test_invalid_arguments_raise(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        FrozenTeacher(**{"model": nn.Linear(3, 4), **options})
