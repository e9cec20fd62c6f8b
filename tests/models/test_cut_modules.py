"""What is cut and assembled computes what the whole did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight.models.cut_modules import assemble, cut_modules
from kdlight.models.digits import ConvNet, TinyNet
from kdlight.models.hybrid import Hybrid


def nested() -> nn.Sequential:
    torch.manual_seed(0)
    relu = nn.ReLU()  # the same module twice
    network = nn.Sequential()
    network.add_module("stem", nn.Linear(4, 8))
    network.add_module("blocks", nn.Sequential(relu, nn.Linear(8, 8), relu, nn.Linear(8, 8), relu))
    network.add_module("head", nn.Linear(8, 3))
    return network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 11, ["3"], ["1", "4", "10"]])
def test_assembled_modules_have_bitwise_the_logits_of_the_network(
    parts: Any, training: bool
) -> None:
    network = ConvNet(channels=4).train(training)
    modules = cut_modules(network, parts)
    assert len(modules) == (parts if isinstance(parts, int) else len(parts) + 1)
    assert sum(len(module) for module in modules) == len(network)
    x = torch.randn(5, 1, 8, 8)
    torch.manual_seed(3)
    expected = network(x)  # batch norm of the batch, dropout from the seed
    torch.manual_seed(3)
    assert torch.equal(assemble(modules).train(training)(x), expected)


@pytest.mark.parametrize("parts", [3, ["blocks.3", "head"], ["blocks.1"], ["blocks"]])
def test_a_cut_can_lead_into_a_sequence_with_a_layer_that_is_there_twice(parts: Any) -> None:
    network, x = nested(), torch.randn(5, 4)
    assert torch.equal(assemble(cut_modules(network, parts))(x), network(x))


def test_modules_are_layers_of_the_network_itself() -> None:
    network = nested()
    modules = cut_modules(network, ["blocks.3"])
    assert modules[1][0] is network.get_submodule("blocks.3")
    trained = [p for module in modules for p in module.parameters()]
    assert {id(p) for p in trained} == {id(p) for p in network.parameters()}
    assert [name for name, _ in cut_modules(network, 3)[1].named_children()] == ["blocks"]


def test_layers_are_distributed_evenly() -> None:
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(7)))
    assert [len(module) for module in cut_modules(network, 3)] == [3, 2, 2]


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        (0, ValueError, "parts must be at least 1, got 0"),
        (4, ValueError, "at most 3, the number of layers of network, got 4; .* paths"),
        (True, TypeError, "parts must be .* got True"),
        ("head", TypeError, "parts must be .* got 'head'"),
        (2.0, TypeError, "parts must be .* got 2.0"),
        (["neck"], ValueError, r"parts has \['neck'\], .* they are \['stem', 'blocks', 'head'\]"),
        (["blocks.9"], ValueError, r"parts has \['blocks.9'\]"),
        (["head", "blocks"], ValueError, "in order, got"),
        (["head", "head"], ValueError, "in order, got"),
        (["stem"], ValueError, "of the second and all further modules"),
    ],
)
def test_wrong_parts(parts: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        cut_modules(nested(), parts)


def test_only_plain_sequences_are_cut() -> None:
    class Residual(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + super().forward(x)

    hooked = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    hooked.register_forward_hook(lambda *given: None)
    for network in (TinyNet(), Residual(nn.Linear(2, 2)), nn.ModuleList([nn.ReLU()]), hooked):
        with pytest.raises(TypeError, match=f"got a {type(network).__name__}; write it as"):
            cut_modules(network, 1)  # type: ignore[arg-type]
    inside = nn.Sequential(nn.Linear(2, 2), Residual(nn.Linear(2, 2), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"parts has \['1.1'\], which are no layers that run"):
        cut_modules(inside, ["1.1"])


def trained_hybrids(width: int) -> tuple[list[Hybrid], list[nn.Module]]:
    plain = [nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)]
    ours: list[nn.Module] = [nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 3)]
    return [Hybrid(plain, place, module) for place, module in enumerate(ours)], ours


@pytest.mark.parametrize("width", [8, 5])
def test_hybrids_stand_for_their_modules(width: int) -> None:
    hybrids, ours = trained_hybrids(width)
    x = torch.randn(5, 4)
    assert torch.equal(assemble(hybrids)(x), nn.Sequential(*ours)(x))
    whole = assemble(hybrids, stitches=True)
    assert all(p.requires_grad for p in whole.parameters())
    if width == 8:
        assert torch.equal(whole(x), nn.Sequential(*ours)(x))
        return
    expected = x
    for hybrid in hybrids:
        for part in (hybrid.stitch_in, hybrid.module, hybrid.stitch_out):
            expected = expected if part is None else part(expected)
    assert torch.equal(whole(x), expected)


def test_incomplete_hybrids_are_refused() -> None:
    hybrids, ours = trained_hybrids(8)
    for wrong in (hybrids[:2], hybrids[::-1], [*hybrids[:2], ours[2]], [*hybrids, hybrids[2]]):
        with pytest.raises(ValueError, match="hybrids of all places of a meta network in order"):
            assemble(wrong)
    with pytest.raises(ValueError, match="at least one module, got none"):
        assemble([])
    with pytest.raises(TypeError, match="torch.nn.Modules, got str"):
        assemble(["head"])  # type: ignore[list-item]
