"""The weights of training are found without a lasting effect on a model."""

from __future__ import annotations

import torch
from torch import nn

from kdlight.models.training_weights import run_on_tokens, training_weights
from tests.models.tiny_models import tiny


def test_mode_weights_and_random_numbers_are_as_before() -> None:
    model = tiny("llama")
    model.model.layers[0].train()
    before = [parameter.clone() for parameter in model.parameters()]
    modes, state = [part.training for part in model.modules()], torch.get_rng_state()
    with training_weights(model):
        assert model.training
    assert [part.training for part in model.modules()] == modes
    assert all(map(torch.equal, before, model.parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(model, nn.Module)


def test_a_vocabulary_may_have_fewer_tokens_than_the_sequence() -> None:
    assert run_on_tokens(tiny("gpt2"), 40).shape == (1, 40, 31)
