"""Labels aligned with logits, for batches of several kinds."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdlight.data import (
    batch_labels,
    next_token_labels,
)

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


@given(st.integers(1, 3), st.integers(1, 6))
def test_a_label_is_the_next_token(batch, length):
    ids = torch.arange(batch * length).view(batch, length)
    labels = next_token_labels(ids)
    assert torch.equal(labels[:, :-1], ids[:, 1:])
    assert (labels[:, -1] == -100).all()


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_labels_are_those_of_hugging_face(padding_side):
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(11, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, slice(None, 3) if padding_side == "left" else slice(4, None)] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, :3] = -100  # a prompt that is not trained on
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    output = model(**batch)
    aligned = batch_labels(batch)
    # Hugging Face counts the first token after left padding, which is predicted from padding alone
    expected = nn.functional.cross_entropy(
        output.logits[:, :-1].flatten(0, 1),
        labels[:, 1:].masked_fill(mask[:, :-1] == 0, -100).flatten(),
    )
    if padding_side == "right":
        torch.testing.assert_close(expected, output.loss)
    torch.testing.assert_close(
        nn.functional.cross_entropy(output.logits.flatten(0, 1), aligned.flatten()), expected
    )


def test_labels_of_other_batches():
    x, y = torch.zeros(2, 3), torch.tensor([1, 0])
    assert batch_labels((x, y)) is y
    assert batch_labels([x, y]) is y
    assert batch_labels({"pixel_values": x, "labels": y}) is y
    assert batch_labels({"input_ids": x.long(), "labels": y}) is y  # a classifier of sequences
    ids = torch.tensor([[3, 4, 5]])
    assert batch_labels({"input_ids": ids}).tolist() == [[4, 5, -100]]
    assert ids.tolist() == [[3, 4, 5]]


@pytest.mark.parametrize("batch", [torch.zeros(2), (torch.zeros(2),), {"x": torch.zeros(2)}, None])
def test_a_batch_without_labels_says_what_to_override(batch):
    with pytest.raises(TypeError, match=r"override `labels\(batch\)`"):
        batch_labels(batch)
