"""ACM: a stack of learners and layer-wise training, compared with vectors of the authors' code.

Where the code finds the number of learners that is enough, it counts one more, and takes all where
none would do: it looks for the first index above 0. kdlight returns the smallest number.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import SingleInput
from kdlight.models.learner_stack import LearnerStack, sufficient_learners
from kdlight.modules.layerwise import LayerwiseDistillationModule
from tests.methods.test_conformance import ROOT, read

FILES = {path.stem: read(path) for path in sorted((ROOT / "acm").glob("*.safetensors"))}


class Stacks(LayerwiseDistillationModule):
    def call_module(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> Any:
        assert isinstance(module, LearnerStack)
        return module.outputs(*args)


class Layer(nn.Module):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        return self.output


def all_choices(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours - theirs.unsqueeze(-2)).square().mean((-1, -2))


def stack(name: str) -> LearnerStack:
    meta, tensors = FILES[name]
    hyper = meta["hparams"]
    width, hidden = tensors["w1"].shape
    layers = LearnerStack(
        hyper["num_blocks"],
        width=width,
        hidden=hidden,
        detached=hyper["detach_mode"] == "detach",
    ).double()
    weights = {"first.weight": "w1", "second.weight": "w2"}
    state = {name: tensors[key].T for name, key in weights.items()}
    layers.load_state_dict({**state, "first.bias": tensors["b1"]})
    return layers


@pytest.mark.parametrize("name", FILES)
def test_outputs_loss_and_gradients_are_the_authors(name: str) -> None:
    _, tensors = FILES[name]
    layers, teacher = stack(name), Layer(tensors["target"])
    torch.testing.assert_close(layers.outputs(tensors["x"]), tensors["expected_outputs"])
    trained = Stacks(
        SingleInput(nn.Sequential(layers)),
        SingleInput(nn.Sequential(teacher)),
        pairs={"net.0": "net.0"},
        loss=all_choices,
    )
    loss = trained.learner_losses(tensors["x"])["student"][0].mean()
    torch.testing.assert_close(loss, tensors["expected_loss"])
    loss.backward()
    for parameter, key in (
        (layers.first.weight, "expected_grad"),
        (layers.second.weight, "expected_grad_w2"),
        (layers.first.bias, "expected_grad_b1"),
    ):
        assert parameter.grad is not None
        expected = tensors[key]
        torch.testing.assert_close(parameter.grad, expected.T if expected.dim() > 1 else expected)


@pytest.mark.parametrize("name", FILES)
def test_labels_of_the_gate_are_the_smallest_number(name: str) -> None:
    meta, tensors = FILES[name]
    count, factor = meta["hparams"]["num_blocks"], meta["hparams"]["gating_error_factor"]
    smallest = sufficient_learners(tensors["expected_outputs"], tensors["target"], factor=factor)
    as_the_code = torch.where((smallest == 0) | (smallest == count), count, smallest + 1)
    assert torch.equal(as_the_code, tensors["expected_gate_labels"])
    assert not torch.equal(smallest, tensors["expected_gate_labels"])
