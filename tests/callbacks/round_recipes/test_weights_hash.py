"""Other weights have another hash."""

from __future__ import annotations

from pathlib import Path

import torch

from kdlight.callbacks.round_recipes.weights_hash import hash_on_ranks
from tests.support import tiny_lm, toy


def test_it_changes_with_any_parameter(tmp_path: Path) -> None:
    run, network = toy.trainer(tmp_path), tiny_lm.model()
    before = hash_on_ranks(run, network)
    assert hash_on_ranks(run, tiny_lm.model()) == before
    for parameter in network.parameters():
        old = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.1)
        assert hash_on_ranks(run, network) != before
        with torch.no_grad():
            parameter.copy_(old)
    assert hash_on_ranks(run, network) == before
