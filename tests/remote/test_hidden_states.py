from __future__ import annotations

import torch
from torch import nn

from kdlight.remote.connection import connect
from kdlight.remote.hidden_states import ServedHead, fetch_head, place_states
from tests.support import served


def test_states_stand_at_their_rows() -> None:
    head, cpu = ServedHead(nn.Linear(4, 5), lambda logits: 2 * logits), torch.device("cpu")
    states = {0: torch.randn(2, 4), 2: torch.randn(3, 4)}
    source = place_states(states, {0: 1, 2: 0}, torch.Size([3, 3]), head, cpu)
    assert source.shape == (3, 3, 5)
    logits = source.logits()
    torch.testing.assert_close(logits[0, 1:], 2 * head.head(states[0]))
    torch.testing.assert_close(logits[2], 2 * head.head(states[2]))
    assert bool(logits[1].isnan().all())
    assert bool(logits[0, 0].isnan().all())


def test_without_a_row_the_source_has_its_shape() -> None:
    head = ServedHead(nn.Linear(4, 5), None)
    source = place_states({}, {}, torch.Size([2, 3]), head, torch.device("cpu"))
    assert (source.shape, source.dtype) == ((2, 3, 5), torch.float32)


def test_the_head_is_that_of_the_teacher() -> None:
    network = served.network()
    with served.server(network, states="float32") as server:
        head = fetch_head(connect([served.endpoint(server)], "auto", None))
    torch.testing.assert_close(next(head.head.parameters()), network.model.lm_head.weight)
    assert not head.head.training
