"""The last features are found, in any kind of network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import CausalLM, SingleInput
from kdlight.models.digits import ConvNet, TinyNet
from kdlight.ranking.places import Place, find_places
from tests.families.families import FAMILIES

IMAGES = torch.zeros(3, 1, 8, 8)


class Averaged(nn.Module):
    """Maps that are averaged, of blocks that share one ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        return self.head(self.pool(self.relu(x + self.second(x))).flatten(1))


class Attention(nn.Module):
    """Patches, a layer of attention, the mean over patches, and dropout after the head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.head, self.dropout = nn.LayerNorm(8), nn.Linear(8, 10), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.layer(self.patches(x).flatten(2).mT))
        return self.dropout(self.head(hidden.mean(1)))


def find(network: nn.Module, batch: Any, path: str | None = None) -> tuple[str, Place]:
    place = find_places(network.eval(), batch, path).features
    names = {id(module): name for name, module in network.named_modules()}
    return names[id(place.module)], place


@pytest.mark.parametrize(
    ("network", "name", "side", "call", "channel_dim"),
    [
        (ConvNet(channels=4), "7", "output", 0, 1),
        (SingleInput(ConvNet(channels=4)), "net.7", "output", 0, 1),
        (Averaged(), "relu", "output", 1, 1),
        (Attention(), "norm", "output", 0, -1),
        (TinyNet(), "head", "input", 0, -1),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "1", "input", 0, -1),
    ],
    ids=["maps", "wrapped", "averaged", "attention", "vectors", "linear"],
)
def test_a_classifier_of_images(
    network: nn.Module, name: str, side: str, call: int, channel_dim: int
) -> None:
    found, place = find(network, IMAGES)
    assert (found, *place[1:]) == (name, side, call, channel_dim)


@pytest.mark.parametrize(
    ("family", "name"),
    [("gpt2", "transformer.ln_f"), ("bert_sequences", "bert.encoder.layer.1.output.LayerNorm")],
)
def test_models_of_transformers(family: str, name: str) -> None:
    each = FAMILIES[family]
    model: Any = each.make(0)
    assert find(model, each.batch(0))[0].replace("layer.0", "layer.1") == name
    if family == "gpt2":  # whose head is applied later
        assert find(CausalLM.wrap(model), each.batch(0))[0] == f"model.{name}"


def test_sequences_with_channels_first() -> None:
    network = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip
    name, place = find(network, torch.zeros(5, 2, 7))
    assert (name, place.channel_dim) == ("3", 1)


def test_a_path_is_followed() -> None:
    assert find(ConvNet(), IMAGES, "2")[0] == "2"
    assert find(Averaged(), IMAGES, "relu")[1].call == 1
    assert find(TinyNet(), IMAGES, "hidden")[1][1:] == ("output", 0, -1)
    with pytest.raises(ValueError, match="no module of ConvNet is called '77'"):
        find(ConvNet(), IMAGES, "77")
    with pytest.raises(ValueError, match="'2:input' must be that of a module, whose output"):
        find(ConvNet(), IMAGES, "2:input")
    unused = TinyNet()
    unused.spare = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="'spare' leads to a Linear that did not run"):
        find(unused, IMAGES, "spare")


def test_nothing_is_left_behind() -> None:
    network = ConvNet()
    find(network, IMAGES)
    with pytest.raises(RuntimeError):
        find(network, torch.zeros(3, 2, 8, 8))
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_network_without_modules() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((1, 2))

    with pytest.raises(ValueError, match="Sum has no module with features"):
        find(Sum(), IMAGES)


@pytest.mark.parametrize(
    ("network", "name"),
    [(ConvNet(), "10"), (Averaged(), "head"), (Attention(), "head"), (TinyNet(), "head")],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
@pytest.mark.parametrize("path", [None, ""], ids=["all", "with a path"])
def test_the_classifier_is_the_last_layer_with_parameters(
    network: nn.Module, name: str, path: str | None
) -> None:
    place = find_places(network.eval(), IMAGES, path).classifier
    assert place is not None
    assert place.module is network.get_submodule(name)
    assert place[1:] == ("output", 0, -1)


def test_the_classifier_of_a_language_model_is_its_head() -> None:
    model: Any = FAMILIES["gpt2"].make(0).eval()
    batch = FAMILIES["gpt2"].batch(0)
    place = find_places(model, batch).classifier
    assert place is not None
    assert place.module is model.lm_head
    wrapped = find_places(CausalLM.wrap(model), batch).classifier
    assert wrapped is not None
    assert wrapped.module is model.lm_head


class Tied(nn.Module):
    """Tokens whose embeddings are used as the classifier, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(9, 4), nn.LayerNorm(4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.embedding(ids)) @ self.embedding.weight.T


def test_a_classifier_that_is_no_module() -> None:
    network, ids = Tied(), torch.arange(6).view(2, 3)
    places = find_places(network, ids)
    assert places.classifier is None
    assert places.features.module is network.norm
