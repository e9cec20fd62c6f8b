"""A model that reads the padding before a sequence is named."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from kdlight import CausalLM
from kdlight.features import Capture
from kdlight.models.left_padding import left_padding_difference, warn_about_left_padding
from tests.families.families import FAMILIES
from tests.families.family import VOCABULARY, maker, padded_left, text

rwkv = maker(
    "RwkvForCausalLM", "RwkvConfig", vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2,
    attention_hidden_size=32, intermediate_size=48, bos_token_id=1, eos_token_id=2,
)  # fmt: skip


@pytest.mark.parametrize("make", [rwkv, FAMILIES["bart"].make, FAMILIES["bert_sequences"].make],
                         ids=["rwkv", "bart", "bert_sequences"])  # fmt: skip
def test_a_model_that_reads_it_is_named(make: Any) -> None:
    batch = text(0)
    if make is not rwkv:
        batch["labels"] = torch.tensor([[3], [4], [2]])
    model = make(0)
    warn_about_left_padding(model, batch)  # on the right it changes nothing
    with pytest.warns(UserWarning, match=rf"{type(model).__name__} depend on the padding at the"):
        warn_about_left_padding(model, {**padded_left(text(0)), "labels": batch["labels"]})


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba", "bert_masked", "llava"])
@pytest.mark.parametrize("wrap", [lambda m: m, CausalLM.wrap], ids=["as it is", "wrapped"])
def test_nothing_is_said_of_other_models(name: str, wrap: Any) -> None:
    family = FAMILIES[name]
    network = wrap(family.make(0)).train()
    batch = padded_left(family.batch(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about_left_padding(network, batch)
    assert network.training


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(2, 3),
        {"input_ids": torch.ones(2, 3)},
        {"input_ids": torch.ones(1, 3), "attention_mask": torch.ones(1, 1, 3, 3)},
        {"input_ids": torch.ones(1, 3), "attention_mask": torch.tensor([[1, 1, 0]])},
        {"input_ids": torch.ones(1, 3), "attention_mask": torch.tensor([[0, 0, 0]])},
        {
            "input_ids": torch.ones(1, 3),
            "attention_mask": torch.tensor([[0, 1, 1]]),
            "pixel_values": torch.ones(7, 2),
        },
    ],
    ids=["tensor", "no mask", "4D mask", "right", "nothing", "rows unknown"],
)
def test_batches_without_such_a_row_are_not_evaluated(batch: Any) -> None:
    assert left_padding_difference(nn.Linear(2, 3), batch) == 0


def test_what_it_evaluates_is_not_captured() -> None:
    model = FAMILIES["llama"].make(0)
    batch = padded_left(text(0))
    with Capture(model, ["model.layers.0"]) as features:
        assert left_padding_difference(model, batch) < 1e-4
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    assert features["model.layers.0"].shape[:2] == batch["input_ids"].shape
