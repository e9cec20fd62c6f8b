"""The parsing of the answers of TRL's server, from a recorded exchange."""

from __future__ import annotations

import base64
import copy
from typing import Any

import numpy as np
import pytest

from kdlight.endpoints import Endpoint, ServerError
from kdlight.remote import ServerInfo
from kdlight.remote.dialects.trl import TRL, read_arrays
from tests.remote.recordings import Recording, replayed
from tests.support.http_server import http_server

RECORDED = Recording("trl_1.4.0.json")
SCORES = RECORDED["scores"]
SEQUENCES = SCORES["request"]["sequences"]
K = SCORES["request"]["top_logprobs"]
VOCABULARY = 102


def decoded(name: str, dtype: Any) -> Any:
    content = base64.b64decode(SCORES["answer"][name])
    return np.frombuffer(content, dtype=dtype).reshape(SCORES["answer"]["shape"])


def test_a_recorded_exchange_is_read() -> None:
    with http_server(replayed(RECORDED)) as server:
        endpoint = Endpoint(server.url, retries=0)
        info = TRL().discover(endpoint, None)
        assert info == ServerInfo("TRL", "the model of the server")
        found = TRL().score(endpoint, info, SEQUENCES, K)
    ids, values = decoded("token_ids_b64", np.int32), decoded("logprobs_b64", np.float32)
    for row, (sequence, tokens) in enumerate(zip(found, SEQUENCES, strict=True)):
        assert np.array_equal(np.unique(sequence.positions), np.arange(len(tokens) - 1))
        for position in range(len(tokens) - 1):
            here = sequence.positions == position
            pairs = zip(ids[row, position].tolist(), values[row, position].tolist(), strict=True)
            own = zip(sequence.ids[here].tolist(), sequence.log_probs[here].tolist(), strict=True)
            assert dict(own) == pytest.approx(dict(pairs))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", [2, 8, K + 1]),
        ("shape", None),
        ("completion_lengths", [8, 5]),
        ("completion_lengths", []),
        ("logprobs_b64", "AAAA"),
        ("logprobs_b64", "no base64!"),
        ("token_ids_b64", None),
        ("actual_token_ids_b64", "AAAA" * 20),
    ],
    ids=str,
)
def test_a_wrong_answer_is_never_read(name: str, value: Any) -> None:
    answer = {**copy.deepcopy(SCORES["answer"]), name: value}
    with pytest.raises(ValueError, match=".+"):
        read_arrays(answer, SEQUENCES, K, VOCABULARY)


def test_the_answer_to_other_sequences_is_refused() -> None:
    other = [SEQUENCES[0][::-1], SEQUENCES[1]]
    with pytest.raises(ValueError, match="answer 0 is of another sequence"):
        read_arrays(SCORES["answer"], other, K, VOCABULARY)


def test_newer_versions_do_not_score() -> None:
    only = Recording("trl_1.4.0.json")
    for name in ("scores", "scores of two tokens"):
        del only[name]
    with (
        http_server(replayed(only)) as server,
        pytest.raises(ServerError, match="scores no sequences"),
    ):
        TRL().discover(Endpoint(server.url, retries=0), None)
