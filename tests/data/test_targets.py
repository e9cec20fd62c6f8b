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
from kdlight.data.targets import are_shifted, find_label_rule

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
    assert aligned is not None
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


IDS, X, Y = torch.tensor([[3, 4, 5]]), torch.zeros(2, 3), torch.tensor([1, 0])
OTHER = torch.tensor([[9, 9, 9]])


@pytest.mark.parametrize(
    ("batch", "rule"),
    [
        ((X, Y), "aligned"),
        ([X, Y], "aligned"),
        ((IDS, OTHER), "aligned"),
        ({"pixel_values": X, "labels": Y}, "aligned"),
        ({"pixel_values": IDS, "labels": IDS}, "aligned"),
        ({"input_ids": X.long(), "labels": Y}, "aligned"),  # a classifier of sequences
        ({"input_ids": IDS, "labels": IDS.float()}, "aligned"),
        ({"input_ids": IDS, "labels": IDS}, "causal"),
        ({"input_ids": IDS, "labels": torch.tensor([[-100, 4, 5]])}, "causal"),
        ({"input_ids": IDS}, "causal"),
        ({"input_ids": IDS, "labels": torch.full_like(IDS, -100)}, None),
        ({"pixel_values": X}, "none"),
        ((X,), "none"),
        (X, "none"),
        (None, "none"),
        ((X, None), "none"),
    ],
    ids=[
        "pair",
        "list",
        "pair of tokens",
        "image",
        "image of integers",
        "sequences",
        "floats",
        "causal",
        "causal with a prompt",
        "tokens",
        "nothing counts",
        "unlabelled image",
        "one",
        "tensor",
        "None",
        "pair without labels",
    ],
)
def test_the_batch_tells_where_labels_stand(batch: Any, rule: str | None) -> None:
    assert find_label_rule(batch) == rule


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        ({"input_ids": IDS, "labels": OTHER}, "other tokens than 'input_ids'"),
        ({"input_ids": IDS, "labels": torch.tensor([[4, 5, -100]])}, "shifted already"),
        ({"input_ids": IDS, "labels": torch.tensor([[4, 5, 6]])}, "shifted already"),
        ((IDS, IDS), r"equal to the inputs x of a pair \(x, y\)"),
    ],
    ids=["other", "shifted", "shifted, with an end", "pair"],
)
def test_a_batch_that_does_not_tell_is_refused(batch: Any, what: str) -> None:
    with pytest.raises(ValueError, match=rf"{what}.*labels='causal'.*labels='aligned'"):
        batch_labels(batch)
    labels = batch["labels"] if isinstance(batch, dict) else batch[1]
    assert batch_labels(batch, "aligned") is labels
    expected = next_token_labels(labels)
    shifted = batch_labels(batch, "causal")
    assert shifted is not None
    assert torch.equal(shifted, expected)
    assert batch_labels(batch, "none") is None


def test_labels_of_other_batches() -> None:
    assert batch_labels((X, Y)) is Y
    assert batch_labels({"pixel_values": X, "labels": Y}) is Y
    ids = IDS.clone()
    shifted = batch_labels({"input_ids": ids})
    assert shifted is not None
    assert shifted.tolist() == [[4, 5, -100]]
    assert ids.tolist() == [[3, 4, 5]]
    assert batch_labels({"input_ids": X.long(), "labels": Y}, "causal") is Y  # of sequences
    mask = torch.ones(1, 1, 3, 3)
    packed = batch_labels({"input_ids": IDS, "attention_mask": mask}, "causal")
    assert packed is not None
    assert packed.tolist() == [[4, 5, -100]]


@pytest.mark.parametrize("batch", [X, (X,), {"x": X}, None], ids=["tensor", "pair", "dict", "none"])
def test_a_batch_may_have_no_labels(batch: Any) -> None:
    assert batch_labels(batch) is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.long])
def test_a_value_of_one_s_own_marks_ignored_labels(dtype: torch.dtype) -> None:
    maps = torch.tensor([[0, 255], [4, 1]], dtype=dtype)
    labels = batch_labels((torch.zeros(2, 3, 2), maps), "aligned", ignore_index=255)
    assert labels is not None
    assert labels.tolist() == [[0, -100], [4, 1]]
    assert maps.max() == 255
    text = {"input_ids": IDS, "labels": torch.tensor([[0, 4, 5]])}
    assert find_label_rule(text, ignore_index=0) == "causal"
    shifted = batch_labels(text, ignore_index=0)
    assert shifted is not None
    assert shifted.tolist() == [[4, 5, -100]]


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="rule must be one of 'causal', 'aligned', 'none'"):
        batch_labels((X, Y), "shifted")  # type: ignore[arg-type]


def test_shifted_labels_are_recognized() -> None:
    counts = torch.ones_like(IDS, dtype=torch.bool)
    assert are_shifted(torch.tensor([[4, 5, 0]]), IDS, counts)
    assert not are_shifted(IDS, IDS, counts)
    assert not are_shifted(torch.tensor([[4, 5, 0]]), IDS, ~counts)


def test_labels_of_bytes_are_ignored_like_others() -> None:
    ids = torch.tensor([[4, 5, 6, 0]], dtype=torch.uint8)
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 0]])}
    assert next_token_labels(ids).tolist() == [[5, 6, 0, -100]]
    assert batch_labels(batch, "causal").tolist() == [[5, 6, -100, -100]]  # type: ignore[union-attr]
