"""The number of tokens that a network can read."""

from __future__ import annotations

from kdlight import CausalLM
from kdlight.models.context import context_length
from tests.support import tiny_lm, toy


def test_the_context_is_told_by_a_network_or_its_config() -> None:
    model = tiny_lm.model()
    assert context_length(model) == context_length(CausalLM.wrap(model)) == 256
    assert context_length(toy.ToyLM()) is None
