"""Means over valid tokens, and a model that is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.models.pruning.token_means import token_means, valid_tokens
from tests.models.pruning.test_pruning_check import rwkv
from tests.models.pruning.width_models import batch, decoder

PATH = "model.norm"


def outputs(given: Tensor, made: Tensor) -> Tensor:
    return made


def mean(model: Any, batches: list[Any]) -> Tensor:
    return token_means(model, batches, {PATH: outputs})[PATH]


def test_it_is_the_mean_of_what_the_module_computes() -> None:
    model, given = decoder("llama"), batch()
    with torch.no_grad():
        expected = model.model(**given).last_hidden_state.double().mean((0, 1))
    found = mean(model, [given])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_how_tokens_are_batched_makes_no_difference() -> None:
    model = decoder("llama").double()
    ids = batch(4, 8)["input_ids"]
    whole = mean(model, [{"input_ids": ids}])
    one_by_one = mean(model, [{"input_ids": row[None]} for row in ids])
    uneven = mean(model, [{"input_ids": ids[:3]}, {"input_ids": ids[3:]}])
    for each in (one_by_one, uneven):
        torch.testing.assert_close(each, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_count(side: str) -> None:
    model = decoder("llama").double()
    long, short = batch(1, 8)["input_ids"], batch(1, 5, seed=2)["input_ids"]
    padding, real = torch.full((1, 3), 2), torch.ones(1, 5, dtype=torch.long)
    none = torch.zeros(1, 3, dtype=torch.long)
    pieces, masks = ([padding, short], [none, real])
    if side == "right":
        pieces, masks = pieces[::-1], masks[::-1]
    padded = {
        "input_ids": torch.cat([long, torch.cat(pieces, 1)]),
        "attention_mask": torch.cat([torch.ones_like(long), torch.cat(masks, 1)]),
    }
    expected = mean(model, [{"input_ids": long}, {"input_ids": short}])
    torch.testing.assert_close(mean(model, [padded]), expected, rtol=1e-12, atol=1e-14)


def test_which_tokens_are_valid() -> None:
    ids = torch.tensor([[5, 6, 2]])
    mask, labels = torch.tensor([[0, 1, 1]]), torch.tensor([[5, -100, -100]])
    assert valid_tokens({"input_ids": ids}).all()
    assert valid_tokens({"input_ids": ids, "labels": labels}).tolist() == [[True, False, False]]
    both = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    assert valid_tokens(both).tolist() == [[False, True, True]]
    of_a_sequence = {"input_ids": ids, "labels": torch.tensor([-100])}
    assert valid_tokens(of_a_sequence).all()


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = decoder("llama").train(training)
    model.model.layers[1].train(not training)
    modes = [each.training for each in model.modules()]
    weights = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    mean(model, [batch()])
    assert [each.training for each in model.modules()] == modes
    assert all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(each.grad is None for each in model.parameters())


def test_it_runs_without_dropout() -> None:
    model = decoder("llama").train()
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert torch.equal(mean(model, [batch()]), mean(model, [batch()]))


def test_weights_that_evaluation_changes_are_restored() -> None:
    model = rwkv()
    before = copy.deepcopy(model.state_dict())
    token_means(model, [batch()], {"rwkv.ln_out": outputs})
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_hooks_and_random_state_are_restored_after_an_error() -> None:
    model = decoder("llama").train()

    def failing() -> Any:
        yield batch()
        torch.rand(3)
        raise KeyError("no more data")

    state = torch.get_rng_state()
    with pytest.raises(KeyError, match="no more data"):
        mean(model, failing())
    assert not any(each._forward_hooks for each in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "got no valid token"),
        ([{**batch(), "attention_mask": torch.zeros(3, 7)}], "got no valid token"),
        ([{"x": torch.zeros(1, 2)}], "reads 'input_ids'"),
    ],
)
def test_nothing_to_measure_on(batches: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean(decoder("llama"), batches)


def test_a_batch_that_is_no_mapping() -> None:
    with pytest.raises(TypeError, match="must be a mapping .* got a Tensor"):
        mean(decoder("llama"), [torch.zeros(1, 2)])


def test_values_that_are_not_finite() -> None:
    model = decoder("llama")
    model.model.norm.weight.data[3] = torch.inf
    with pytest.raises(ValueError, match="importance is not finite: model.norm"):
        mean(model, [batch()])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2]], "must be a tensor of integers .B, T., got list"),
        (torch.ones(1, 2), "must be a tensor of integers"),
        (torch.tensor([[3, 31]]), "has the token id 31, but the vocabulary of the model has 31"),
        (torch.tensor([[3, -1]]), "has the token id -1"),
    ],
    ids=["a list", "floats", "beyond the vocabulary", "negative"],
)
def test_token_ids_that_the_model_cannot_read_are_refused(ids: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        mean(decoder("llama"), [{"input_ids": ids}])
