"""What an engine is told about a network."""

from __future__ import annotations

import torch

from kdlight.rollouts import Writer


def test_a_network_that_is_whole_gathers_nothing() -> None:
    writer = Writer(torch.nn.Linear(2, 2))
    assert writer.weights() is None
    assert not writer.sharded
    assert writer.device == torch.device("cpu")
