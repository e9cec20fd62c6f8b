"""torchao's fake quantization as a parametrization; skipped where torchao is not installed."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from kdlight.quantization import TorchAOQuantization
from kdlight.quantization.torchao_backend import check_group, check_torchao

KINDS: dict[str, dict[str, Any]] = {
    "int4": {"bits": 4, "bucket": 16},
    "int8": {"bits": 8, "bucket": None},
}


def test_a_missing_torchao_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    for attempt in (check_torchao, lambda *given: TorchAOQuantization(bits=4, bucket=16)):
        with pytest.raises(ImportError, match=r"pip install 'kdlight\[torchao\]'"):
            attempt(4, 16)


def test_weights_that_torchao_does_not_quantize() -> None:
    check_group("up", torch.zeros(3, 32), 16)
    check_group("up", torch.zeros(3, 30), None)
    with pytest.raises(ValueError, match="bucket=16 does not divide the 30 inputs of 'up'"):
        check_group("up", torch.zeros(3, 30), 16)
    with pytest.raises(ValueError, match="no float64 weights, such as that of 'up'"):
        check_group("up", torch.zeros(3, 32, dtype=torch.float64), 16)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, 16), ValueError, "bits must be one of 4, 8, got 3"),
        ((4.0, 16), TypeError, "bits must be an integer, got 4.0"),
        ((8, 16), ValueError, "bucket must be None for 8 bits of torchao.*got 16"),
        ((4, None), ValueError, "bucket must be the size of a group for 4 bits.*got None"),
        ((4, 1), ValueError, "bucket must be at least 2, got 1"),
    ],
)
def test_arguments_are_checked(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check_torchao(*arguments)


def layer(kind: str) -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(64, 8)
    register_parametrization(made, "weight", TorchAOQuantization(**KINDS[kind]))
    return made


def torchao_dtype(kind: str) -> Any:
    return vars(torch)[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_a_model_that_torchao_prepared(kind: str) -> None:
    torchao: Any = pytest.importorskip("torchao.quantization")
    qat: Any = pytest.importorskip("torchao.quantization.qat")
    network, x = layer(kind), torch.randn(5, 64)
    prepared = nn.Sequential(nn.Linear(64, 8))
    prepared[0].load_state_dict(
        {
            "weight": network.get_parameter("parametrizations.weight.original").detach(),
            "bias": network.bias.detach(),
        }
    )
    groups = {"group_size": 16} if kind == "int4" else {"granularity": "per_channel"}
    config = qat.IntxFakeQuantizeConfig(torchao_dtype(kind), **groups)
    torchao.quantize_(prepared, qat.QATConfig(weight_config=config, step="prepare"))
    assert torch.equal(network(x), prepared(x))
    for each in (network, prepared):
        each(x).square().sum().backward()
    for ours, theirs in (("parametrizations.weight.original", "0.weight"), ("bias", "0.bias")):
        one, other = network.get_parameter(ours).grad, prepared.get_parameter(theirs).grad
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_torchao_stores_the_trained_weight_with_the_same_values(kind: str) -> None:
    torchao: Any = pytest.importorskip("torchao.quantization")
    network = layer(kind)
    trained = nn.Sequential(nn.Linear(64, 8))
    trained[0].weight = nn.Parameter(
        network.get_parameter("parametrizations.weight.original").detach()
    )
    granularity = torchao.PerGroup(16) if kind == "int4" else torchao.PerAxis(0)
    config = torchao.IntxWeightOnlyConfig(weight_dtype=torchao_dtype(kind), granularity=granularity)
    torchao.quantize_(trained, config)
    stored: Any = trained[0].weight
    assert torch.equal(stored.dequantize(), network.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_stays_and_nothing_else_is_saved(kind: str) -> None:
    pytest.importorskip("torchao")
    network = layer(kind)
    before = copy.deepcopy(network.state_dict())
    assert set(before) == {"bias", "parametrizations.weight.original"}
    network(torch.randn(3, 64)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    x = torch.randn(3, 64)
    assert torch.equal(copy.deepcopy(network)(x), network(x))
    groups = network.weight.detach().view(8, -1, KINDS[kind]["bucket"] or 64)
    assert max(len(group.unique()) for row in groups for group in row) <= 2 ** KINDS[kind]["bits"]
