"""Captured features are those of the forward pass, with its graph, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

from kdlight import CausalLM
from kdlight.features import Capture, not_captured
from tests.support.gloo import run_on_ranks


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))


def llama(**sizes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 11, **sizes}
    return LlamaForCausalLM(
        LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    )


def test_features_are_the_tensors_of_the_network_with_their_graph() -> None:
    network, x = net(), torch.randn(4, 2)
    with Capture(network, ["0", "1:input", "1", "", ":input"]) as features:
        output = network(x)
    assert features[""] is output
    assert features["0"] is features["1:input"]
    assert features[":input"] is x
    assert list(features) == ["0", "1:input", "1", "", ":input"]
    assert len(features) == 5
    assert "1" in features
    assert "2" not in features
    (gradient,) = torch.autograd.grad(features["1"].sum(), network[0].weight)
    (expected,) = torch.autograd.grad(torch.tanh(network[0](x)).sum(), network[0].weight)
    assert torch.equal(gradient, expected)


def test_hooks_are_gone_after_the_block_and_after_an_error() -> None:
    network = net()
    with Capture(network, ["0", "1:input"]):
        assert hooks(network) == 2
        network(torch.zeros(1, 2))
    assert hooks(network) == 0
    with pytest.raises(RuntimeError), Capture(network, ["0", "1:input"]):
        network(torch.zeros(1, 5))
    assert hooks(network) == 0
    with pytest.raises(ValueError, match="no module"):
        Capture(network, ["0", "9"])
    assert hooks(network) == 0


def test_nothing_is_recorded_outside_of_the_block_or_when_paused() -> None:
    network = net()
    with Capture(network, ["0"]) as features:
        with not_captured():
            network(torch.zeros(7, 2))
        network(torch.zeros(3, 2))
    network(torch.zeros(5, 2))
    assert len(features["0"]) == 3
    with pytest.raises(ZeroDivisionError), not_captured():
        raise ZeroDivisionError
    with Capture(network, ["0"]) as features:
        network(torch.zeros(3, 2))
    assert len(features["0"]) == 3


def test_a_capture_may_be_used_within_another() -> None:
    network = net()
    with Capture(network, ["0"]) as outer:
        with Capture(network, ["1"]) as inner:
            network(torch.zeros(3, 2))
        assert hooks(network) == 1
    assert outer["0"].shape == inner["1"].shape == (3, 3)


class Changed(nn.Module):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x)) * 1.0


@pytest.mark.parametrize("path", ["one", "two:input"])
def test_features_that_are_changed_in_place_are_refused(path: str) -> None:
    for inplace in (False, True):
        network = Changed(inplace)
        with Capture(network, [path, "two"]) as features:
            output = network(torch.randn(9, 2))
        assert torch.equal(features["two"], output)
        if inplace:
            with pytest.raises(ValueError, match=f"'{path}' was changed in place"):
                features[path]
        else:
            assert (features[path] < 0).any()


def test_features_of_inference_mode() -> None:
    network = net()
    with torch.inference_mode(), Capture(network, ["0"]) as features:
        network(torch.zeros(3, 2))
    assert features["0"].shape == (3, 3)


class Calls(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.layer, self.times = nn.Linear(2, 2), times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.layer(x)
        return x


def test_modules_that_run_twice_or_never_are_refused() -> None:
    for times, message in ((0, "was not captured: this module of Calls"), (2, "of Calls ran 2")):
        with Capture(network := Calls(times), ["layer"]) as features:
            network(torch.zeros(1, 2))
        with pytest.raises(ValueError, match=message):
            features["layer"]
    with pytest.raises(KeyError):
        features["other"]


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(hidden=x, ids=torch.zeros(1).long())["second"][1]


class Inner(nn.Module):
    def forward(self, hidden: Tensor, ids: Tensor) -> Any:
        return {"first": hidden + 1, "second": (hidden, hidden * 2), "ids": ids}


def test_mappings_tuples_and_keyword_arguments() -> None:
    network, x = Structured(), torch.randn(3)
    paths = ["inner", "inner:output.second", "inner:input", "inner:input.hidden"]
    with Capture(network, paths) as features:
        network(x)
    assert torch.equal(features["inner"], x + 1)
    for path in paths[1:]:
        assert torch.equal(features[path], x)
    for path, message in (
        ("inner:output.ids", "floating-point dtype, got torch.int64"),
        ("inner:output.third", "is no tensor: the module returned a mapping"),
        ("inner:input.other", r"keyword arguments \['hidden', 'ids'\]"),
    ):
        with pytest.raises(ValueError, match=message), Capture(network, [path]):
            network(x)
        assert hooks(network) == 0


def test_gradient_checkpointing_of_torch() -> None:
    class Checkpointed(nn.Module):
        def __init__(self, reentrant: bool | None) -> None:
            super().__init__()
            self.block, self.reentrant = net(), reentrant

        def forward(self, x: Tensor) -> Any:
            if self.reentrant is None:
                return self.block(x)
            return checkpoint(self.block, x, use_reentrant=self.reentrant)

    def run(reentrant: bool | None) -> tuple[Tensor, list[Tensor | None]]:
        network, x = Checkpointed(reentrant), torch.ones(4, 2, requires_grad=True)
        with Capture(network, ["block.0"]) as features:
            output = network(x)
        feature = features["block.0"]
        (
            output.sum() + feature.square().sum() if feature.requires_grad else output.sum()
        ).backward()
        assert features["block.0"] is feature  # the repeated pass was not recorded
        return feature, [p.grad for p in network.parameters()]

    feature, expected = run(None)
    again, gradients = run(False)
    assert torch.equal(feature, again)
    assert again.requires_grad
    for one, two in zip(gradients, expected, strict=True):
        assert one is not None
        assert two is not None
        assert torch.equal(one, two)
    # the reentrant kind runs without gradients first: modules refuse such a feature
    assert not run(True)[0].requires_grad


@pytest.mark.parametrize("path", ["layers.0", "layers.1.mlp", "layers.1.self_attn.q_proj"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_gradient_checkpointing_of_transformers(path: str, wrapped: bool) -> None:
    name = next(
        each
        for each in ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        if hasattr(LlamaForCausalLM, each)
    )

    def gradients(enable: bool) -> list[Tensor]:
        model = llama().train()
        if enable:
            getattr(model, name)()
        network = CausalLM.wrap(model) if wrapped else model
        ids = torch.arange(8).reshape(2, 4)
        with Capture(network, [path]) as features:
            output: Any = network({"input_ids": ids}) if wrapped else network(input_ids=ids)
        feature = features[path]
        logits = output.logits() if wrapped else output.logits
        (logits.square().sum() + feature.square().sum()).backward()
        assert features[path] is feature
        return [p.grad for p in model.parameters() if p.grad is not None]

    plain, repeated = gradients(False), gradients(True)
    assert len(plain) == len(repeated) > 10
    assert all(map(torch.equal, plain, repeated))


def test_features_of_a_model_are_its_hidden_states() -> None:
    model = llama().eval()
    ids = torch.arange(8).reshape(2, 4)
    paths = ["layers.0:input", "layers.0", "layers.1", "norm", "layers.0:input.hidden_states"]
    with Capture(model, paths[:4]) as features:
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    assert torch.equal(features["layers.0:input"], states[0])
    assert torch.equal(features["layers.0"], states[1])
    assert torch.equal(features["norm"], states[2])
    assert not torch.equal(features["layers.1"], states[2])


def test_adapters_of_peft() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
    adapted = peft.get_peft_model(llama(), config)
    with Capture(adapted, ["model.layers.1.mlp.down_proj", "layers.1"]) as features:
        adapted(input_ids=torch.arange(8).reshape(2, 4))
    features["layers.1"].square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in adapted.parameters())
    assert features["model.layers.1.mlp.down_proj"].shape == (2, 4, 8)


def _in_parallel(rank: int) -> None:
    network, x = net(), torch.randn(4, 2, generator=torch.Generator().manual_seed(rank))
    with Capture(network, ["1"]) as features:
        network(x)
    expected = features["1"]
    wrapped = nn.parallel.DistributedDataParallel(net())
    with Capture(wrapped, ["1"]) as features:  # DDP adds `module.` to names
        wrapped(x)
    assert torch.equal(features["1"], expected)
    sharded = net()
    for layer in sharded:
        fully_shard(layer, mesh=init_device_mesh("cpu", (2,)))
    fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))
    with Capture(sharded, ["1"]) as features:
        sharded(x)
    assert torch.equal(features["1"], expected)
    features["1"].square().sum().backward()
    assert sharded[0].weight.grad is not None


@pytest.mark.slow
def test_names_and_values_under_ddp_and_fsdp2(tmp_path: Any) -> None:
    run_on_ranks(_in_parallel, tmp_path)


def test_a_change_in_place_in_inference_mode_does_not_reach_the_feature() -> None:
    network, x = nn.Sequential(nn.Linear(2, 8), nn.ReLU(inplace=True)), torch.randn(4, 2)
    expected = network[0](x).detach()
    assert (expected < 0).any()
    with torch.inference_mode(), Capture(network, ["0", "1:input"]) as features:
        network(x)
    assert torch.equal(features["0"], expected)
    assert torch.equal(features["1:input"], expected)
