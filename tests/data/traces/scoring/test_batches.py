"""Rows are read in batches of similar length, and a wrong tokenizer is found before the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.data.traces.scoring.batches import batch_logits, batches_by_length
from kdlight.models import CausalLM
from tests.support import tiny_lm


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_each_row_is_in_one_batch_and_lengths_fall(batch_size: int) -> None:
    lengths = [3, 9, 1, 9, 4, 4, 7]
    batches = batches_by_length(lengths, batch_size)
    order = [number for batch in batches for number in batch]
    assert sorted(order) == list(range(7))
    assert [lengths[number] for number in order] == sorted(lengths, reverse=True)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size


def test_no_rows_give_no_batches_but_arguments_are_checked() -> None:
    assert batches_by_length([], 2) == []
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        batches_by_length([], 0)
    with pytest.raises(TypeError, match="batch_size must be an integer, got 1.5"):
        batches_by_length([], 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrapped", [False, True])
def test_logits_are_those_of_each_row_alone(wrapped: bool) -> None:
    model = tiny_lm.model().eval()
    network = CausalLM.wrap(model).eval() if wrapped else model
    rows = [[5, 6, 7, 8], [9], [4, 3]]
    with torch.no_grad():
        got = batch_logits(network, rows).logits()
        assert got.shape[:2] == (3, 4)
        for row, logits in zip(rows, got, strict=True):
            expected = model(torch.tensor([row])).logits[0]
            torch.testing.assert_close(logits[: len(row)], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_token_that_the_model_does_not_have_is_named(wrapped: bool) -> None:
    model = tiny_lm.model()
    with pytest.raises(ValueError, match="gives the token 102, but the model has 102 tokens"):
        batch_logits(CausalLM.wrap(model) if wrapped else model, [[1, 102]])


def test_a_network_without_logits_at_each_token_is_refused() -> None:
    class Classifier(nn.Linear):
        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
            return super().forward(batch["input_ids"].float())

    with pytest.raises(ValueError, match=r"Classifier gives logits of shape \(2, 5\) on \(2, 3\)"):
        batch_logits(Classifier(3, 5), [[1, 2, 3], [1, 2]])
