"""The gate: how it gets its network, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import SingleInput
from kdlight.models.digits import ConvNet, TinyNet
from kdlight.objectives import LossInputs
from kdlight.objectives.fusion.gate import Gate
from kdlight.objectives.fusion.gate_network import GateNetwork
from tests.support import toy


@pytest.mark.parametrize(
    ("student", "source", "size"),
    [
        (SingleInput(TinyNet()), "student", 10),
        (SingleInput(TinyNet()), "net:input", 64),
        (SingleInput(TinyNet()), "net.hidden", 8),
        (toy.ToyLM(dim=6), "layers.1", 6),
    ],
)
def test_bind_finds_the_size(student: Any, source: str, size: int) -> None:
    gate = Gate(3, source)
    gate.bind(student)
    made = gate.network
    assert isinstance(made, GateNetwork)
    assert (made.size, made.output.out_features) == (size, 3)
    gate.bind(student)
    assert gate.network is made
    assert gate.student_paths == (() if source == "student" else (source,))


def test_a_network_of_ones_own_is_kept() -> None:
    own = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    gate = Gate(2, "student", network=own)
    gate.bind(SingleInput(TinyNet()))
    assert gate.network is own
    rows = torch.randn(3, 5)
    torch.testing.assert_close(gate(LossInputs(rows)), own(rows).log_softmax(-1))


def test_its_input_has_a_gradient_unless_it_is_detached() -> None:
    for detached in (False, True):
        rows = torch.randn(3, 5, requires_grad=True)
        Gate(2, "student", size=5, detach_input=detached)(LossInputs(rows))[:, 0].sum().backward()
        assert (rows.grad is None) == detached


def test_half_precision_is_read_in_the_dtype_of_the_gate() -> None:
    rows = torch.randn(3, 5)
    gate = Gate(2, "student", size=5)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gate(LossInputs(rows))
    assert torch.equal(inside, gate(LossInputs(rows)))
    assert gate(LossInputs(rows.bfloat16())).dtype is torch.float32


def test_an_unknown_size_is_asked_for() -> None:
    with pytest.raises(ValueError, match="size of gate_input='1' cannot be told .* gate_size"):
        Gate(2, "1").bind(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))


def test_the_size_of_a_map_is_asked_for() -> None:
    student = SingleInput(ConvNet())
    with pytest.raises(ValueError, match="'net:input' is a map, .* gate_size, .* pooling='mean'"):
        Gate(2, "net:input").bind(student)
    Gate(2, "net:input", size=64).bind(student)
    by_channel = Gate(2, "net.0", pooling="mean")
    by_channel.bind(student)
    assert isinstance(by_channel.network, GateNetwork)


def test_logits_of_a_language_model_are_refused() -> None:
    message = "logits of a language model of 11 tokens, by a layer of 242 weights; give the path"
    with pytest.raises(ValueError, match=message):
        Gate(2, "student").bind(toy.ToyLM())


def test_a_path_to_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match="no module of ToyLM is called 'layers.7'; similar names"):
        Gate(2, "layers.7", size=4).bind(toy.ToyLM())


def test_rows_of_another_size_are_refused() -> None:
    gate = Gate(2, "net:input", size=1)
    inputs = LossInputs(torch.zeros(3, 5), student_features={"net:input": torch.zeros(3, 1, 8, 8)})
    with pytest.raises(
        ValueError, match="made for rows of 1 numbers, .* have 64; pass gate_size=64"
    ):
        gate(inputs)


def test_a_gate_without_a_network_or_of_another_shape_is_refused() -> None:
    inputs = LossInputs(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"no network yet: call bind\(student, teacher\)"):
        Gate(2, "student")(inputs)
    with pytest.raises(ValueError, match=r"each sample and teacher, \(3, 2\), got \(3, 4\)"):
        Gate(2, "student", network=nn.Linear(5, 4))(inputs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gate_input": 3}, TypeError, "gate_input must be 'student' or a path, got 3"),
        ({"network": nn.Linear}, TypeError, "gate must be"),
        ({"size": 0}, ValueError, "gate_size must be .* got 0"),
        ({"pooling": "max"}, ValueError, "pooling must be one of"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Gate(2, **{"gate_input": "student", **options})
