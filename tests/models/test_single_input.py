"""A network reads one entry of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.models import (
    SingleInput,
)
from kdlight.sources import Dense
from tests.families.families import FAMILIES


def test_a_plain_network_reads_one_entry_of_the_batch():
    net = nn.Linear(2, 3)
    x, y = torch.randn(4, 2), torch.zeros(4)
    for key, batch in ((0, (x, y)), (0, [x, y]), (1, (y, x)), ("x", {"x": x}), (0, x)):
        source = SingleInput(net, key=key)(batch)
        assert isinstance(source, Dense)
        assert torch.equal(source.logits(), net(x))


@pytest.mark.parametrize(("key", "batch"), [("x", {"y": 1}), (2, (1, 2)), ("x", (1, 2)), (0, None)])
def test_an_entry_that_is_not_in_the_batch(key, batch):
    with pytest.raises(ValueError, match=f"key={key!r}"):
        SingleInput(nn.Identity(), key=key)(batch)


@pytest.mark.parametrize("class_dim", [1, -3])
def test_the_axis_of_the_classes_is_given(class_dim):
    net, image = nn.Conv2d(3, 5, 1), torch.randn(2, 3, 4, 6)
    got = SingleInput(net, class_dim=class_dim)(image).logits()
    assert torch.equal(got, net(image).movedim(1, -1))
    with pytest.raises(ValueError, match="Conv2d returns logits of shape .* class_dim=1"):
        SingleInput(net)(image)


class OnlyTokens(nn.Module):
    """A wrapper of one's own, which passes nothing but tokens on."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids).logits


@pytest.mark.parametrize("wrap", [lambda model: model, OnlyTokens], ids=["as it is", "wrapped"])
def test_no_other_input_of_a_transformers_model_is_dropped(wrap):
    family = FAMILIES["bert_sequences"]
    model, batch = family.make(0), family.batch(0)
    network = SingleInput(wrap(model), key="input_ids")
    with pytest.raises(ValueError, match=r"\['attention_mask'\] too, which BertFor.*wrap\(model\)"):
        network(batch)
    more = {**batch, "attention_mask": None, "token_type_ids": torch.ones_like(batch["input_ids"])}
    with pytest.raises(ValueError, match=r"\['token_type_ids'\] too"):
        network(more)
    alone = {"input_ids": batch["input_ids"], "labels": batch["labels"], "index": torch.ones(3)}
    assert torch.equal(network(alone).logits(), model(batch["input_ids"]).logits)


def test_an_encoder_decoder_has_more_inputs_than_one():
    family = FAMILIES["whisper"]
    network = SingleInput(family.make(0), key="input_features")
    batch = family.batch(0)
    with pytest.raises(ValueError, match=r"\['labels'\] too, which WhisperFor"):
        network(batch)


def test_an_image_model_reads_its_picture():
    family = FAMILIES["vit"]
    model, batch = family.make(0), family.batch(0)
    got = SingleInput(model, key="pixel_values")(batch)
    assert torch.equal(got.logits(), family.logits(model, batch))
