"""Text of the network itself, through the interface of an engine."""

from __future__ import annotations

from typing import Any

import torch

from kdlight.models import Sampling
from kdlight.rollouts import HuggingFaceRollouts, Writer
from tests.callbacks.test_on_policy import diverse_llama

PREFIXES = [torch.tensor([3, 4, 5]), torch.tensor([7])]


def texts(network: Any, *, seed: int = 0, sampling: Sampling = Sampling()) -> list[list[int]]:  # noqa: B008
    made = HuggingFaceRollouts().generate(
        Writer(network), PREFIXES, [5, 9], sampling=sampling, seed=seed, end=[]
    )
    return [text.tolist() for text in made]


def test_the_seed_decides_and_nothing_else_is_touched() -> None:
    network = diverse_llama(8, seed=1)
    network.train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = texts(network)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert texts(network) == first
    assert texts(network, seed=1) != first
    assert network.training


def test_the_most_likely_text_is_the_same_alone_and_beside_others() -> None:
    network = diverse_llama(8, seed=1).double()
    greedy = Sampling(temperature=0.0, max_new_tokens=2)  # the room counts, not the length
    together = texts(network, sampling=greedy)
    assert [len(text) for text in together] == [8, 10]
    for prefix, room, text in zip(PREFIXES, [5, 9], together, strict=True):
        (alone,) = HuggingFaceRollouts().generate(
            Writer(network), [prefix], [room], sampling=greedy, seed=3, end=[]
        )
        assert alone.tolist() == text


def test_without_prefixes_nothing_is_generated() -> None:
    options: Any = {"sampling": Sampling(), "seed": 0, "end": []}
    assert HuggingFaceRollouts().generate(Writer(None), [], [], **options) == []
