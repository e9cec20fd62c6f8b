from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kdlight.remote.connection import connect
from kdlight.remote.questions import Questions
from kdlight.remote.rows import TokenRow
from tests.support import served

ROWS = {n: TokenRow(str(each).encode(), each, 0) for n, each in enumerate(served.SEQUENCES)}


def questions(server: Any, **options: Any) -> Questions:
    found = connect([served.endpoint(server)], "auto", None)
    defaults = {"k": 4, "states": False, "requests": 2, "max_tokens": 8}
    return Questions(found, **{**defaults, **options})


@pytest.mark.parametrize("announced", [False, True])
def test_the_top_of_each_row(announced: bool) -> None:
    network = served.network()
    with served.server(network) as server:
        asker = questions(server)
        if announced:
            asker.announce(ROWS)
        found = asker.ask(ROWS)
        asker.close()
    for number, row in ROWS.items():
        wanted = served.local(network, row.tokens).topk(4, -1).indices.sort(-1).values
        assert found[number].ids.reshape(-1, 4).tolist() == wanted.tolist()


def test_given_ids_of_each_row_also_where_rows_are_equal() -> None:
    network, tokens = served.network(), [5, 6, 7]
    rows = {0: TokenRow(b"a", tokens, 0), 1: TokenRow(b"a", tokens, 0)}
    ids = {0: np.tile([3, 9], (3, 1)), 1: np.tile([8, 70], (3, 1))}
    with served.server(network) as server:
        found = questions(server).ask_ids(rows, ids)
    log_p = served.local(network, tokens)
    for number in rows:
        chosen = log_p.gather(-1, torch.from_numpy(ids[number]))
        values = torch.from_numpy(found[number].log_probs.reshape(3, 2))
        torch.testing.assert_close(values, chosen, rtol=0, atol=1e-5)


def test_states_of_each_row() -> None:
    with served.server(states="float32") as server:
        found = questions(server, states=True).ask(ROWS)
    assert [len(found[n]) for n in ROWS] == [len(row.tokens) for row in ROWS.values()]
