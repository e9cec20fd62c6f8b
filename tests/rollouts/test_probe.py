"""The text by which the weights of two models are compared."""

from __future__ import annotations

from math import isnan, nan

import pytest
import torch

from kdlight.rollouts.probe import (
    largest_difference,
    network_size,
    probe_ids,
    probe_of,
    token_log_probs,
)
from kdlight.rollouts.writer import Writer
from tests.support import tiny_lm, toy


@pytest.mark.parametrize("size", [2, 11, 49152])
def test_its_tokens_are_spread_over_the_vocabulary(size: int) -> None:
    ids = probe_ids(size)
    assert len(ids) == 32
    assert 0 <= min(ids) <= max(ids) < size
    assert len(set(ids)) == min(size, 32) or size == 11
    assert ids == probe_ids(size)


def test_it_fits_the_context() -> None:
    assert len(probe_of(toy.llama())) == 32
    network = toy.llama()
    network.model.config.max_position_embeddings = 9  # type: ignore[union-attr]
    assert len(probe_of(network)) == 8


def test_networks_tell_their_size() -> None:
    assert network_size(toy.llama()) == toy.VOCABULARY
    assert network_size(tiny_lm.model()) == 102


def test_log_probabilities_are_those_of_the_network_in_evaluation_mode() -> None:
    network = toy.ToyLM(dropout=0.9)
    network.train()
    ids = [3, 4, 5, 3]
    values = token_log_probs(Writer(network), ids)
    assert values == token_log_probs(Writer(network), ids)
    assert network.training
    with torch.no_grad():
        logits = network.eval()({"input_ids": torch.tensor([ids])}).logits()[0]
    expected = torch.log_softmax(logits, -1)[[0, 1, 2], ids[1:]]
    assert values == pytest.approx(expected.tolist())


def test_a_value_that_is_no_number_is_a_difference() -> None:
    assert largest_difference([1.0, -2.0], [1.0, -2.5]) == 0.5
    assert isnan(largest_difference([1.0, nan], [1.0, -2.5]))
