"""What comes through a server of kdlight is what the teacher says itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.remote.dialects.kdlight_server import KdlightServer, _read_info
from kdlight.serve import Limits, TeacherServer
from kdlight.sources import TopK
from tests.support.scored import is_same
from tests.support.served import SEQUENCES, V, endpoint, local, network, server


@pytest.fixture(scope="module")
def served() -> Iterator[TeacherServer]:
    with server(states="float32", name="tiny") as running:
        yield running


@pytest.fixture
def at(served: TeacherServer) -> Iterator[Endpoint]:
    made = endpoint(served)
    yield made
    made.close()


def test_it_tells_what_it_serves(at: Endpoint) -> None:
    info = KdlightServer().discover(at, None)
    assert info == KdlightServer().discover(at, "tiny")
    assert info.software.startswith("kdlight ")
    assert (info.model, info.vocab_size, info.max_k, info.context_length) == ("tiny", V, None, 256)
    assert (info.dtype, info.states, info.scores_ids) == ("float32", "float32", True)
    assert info.tokenizer is not None
    assert info.weights is not None
    with pytest.raises(ValueError, match="model is 'large', but http.* serves 'tiny'"):
        KdlightServer().discover(at, "large")


def test_all_log_probabilities_are_those_of_the_teacher(at: Endpoint) -> None:
    info = KdlightServer().discover(at, None)
    for scores, tokens in zip(
        KdlightServer().score(at, info, SEQUENCES, None), SEQUENCES, strict=True
    ):
        assert (scores.ids.reshape(-1, V) == np.arange(V)).all()
        assert (scores.positions.reshape(-1, V) == np.arange(len(tokens))[:, None]).all()
        expected = local(network(), tokens)
        assert scores.log_probs.reshape(-1, V) == pytest.approx(expected.numpy(), abs=1e-6)
        assert (scores.log_tails == -np.inf).all()


@pytest.mark.parametrize("bits", [8, 32])
def test_the_top_k_is_that_of_the_teacher(at: Endpoint, bits: int) -> None:
    info = KdlightServer().discover(at, None)
    answers = KdlightServer(bits).score(at, info, SEQUENCES, 50)
    for scores, tokens in zip(answers, SEQUENCES, strict=True):
        kept = TopK.of(local(network(), tokens), 50)
        order = kept.ids.argsort(-1)
        assert (scores.ids.reshape(-1, 50) == kept.ids.gather(-1, order).numpy()).all()
        expected = kept.log_probs.gather(-1, order).numpy()
        error = 1e-6 if bits == 32 else 0.01
        assert scores.log_probs.reshape(-1, 50) == pytest.approx(expected, abs=error)
        assert kept.log_tail is not None
        assert scores.log_tails == pytest.approx(kept.log_tail.numpy(), abs=error)


def test_given_ids_have_their_log_probabilities_and_the_rest(at: Endpoint) -> None:
    info = KdlightServer().discover(at, None)
    drawn = np.random.default_rng(0)
    ids = [np.stack([drawn.permutation(V)[:9] for _ in tokens]) for tokens in SEQUENCES]
    answers = KdlightServer(bits=8).score_ids(at, info, SEQUENCES, ids)
    for scores, tokens, own in zip(answers, SEQUENCES, ids, strict=True):
        own = np.sort(own, -1)
        expected = local(network(), tokens)
        assert (scores.ids.reshape(-1, 9) == own).all()
        values = expected.gather(-1, torch.from_numpy(own))
        assert scores.log_probs.reshape(-1, 9) == pytest.approx(values.numpy(), abs=1e-6)
        rest = (1 - values.double().exp().sum(-1)).log()
        assert scores.log_tails == pytest.approx(rest.numpy(), abs=1e-5)


def test_an_id_that_is_given_twice_counts_once(at: Endpoint) -> None:
    info = KdlightServer().discover(at, None)
    once, twice = (
        KdlightServer().score_ids(at, info, [[5, 6]], [np.array(ids)])[0]
        for ids in ([[3, 9], [7, 8]], [[9, 3, 9], [8, 8, 7]])
    )
    assert is_same(once, twice)


def test_states_and_head_give_the_logits(at: Endpoint) -> None:
    info = KdlightServer().discover(at, None)
    head, transform = KdlightServer().head(at, info)
    assert transform is None
    for states, tokens in zip(KdlightServer().states(at, info, SEQUENCES), SEQUENCES, strict=True):
        assert torch.allclose(
            head(states).log_softmax(-1), local(network(), tokens), atol=1e-6, rtol=0.0
        )


def test_states_of_half_precision_fit_the_head() -> None:
    with server(states="bfloat16") as running:
        at = endpoint(running)
        info = KdlightServer().discover(at, None)
        (states,) = KdlightServer().states(at, info, SEQUENCES[:1])
        head, _ = KdlightServer().head(at, info)
        assert (info.states, info.dtype, states.dtype) == ("bfloat16", "float32", torch.float32)
        assert torch.equal(states, states.bfloat16().float())
        error = (head(states).log_softmax(-1) - local(network(), SEQUENCES[0])).abs().max()
        assert error < 0.05
        at.close()


def test_requests_at_the_same_time_get_their_own_answers(at: Endpoint) -> None:
    info = KdlightServer().discover(at, None)
    questions = [[[n + 2, n + 3, n + 4][: 1 + n % 3], [n + 5]] for n in range(24)]

    def ask(rows: list[list[int]]) -> Any:
        return KdlightServer().score(at, info, rows, 7)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(ask, questions))
    for rows, answers in zip(questions, together, strict=True):
        assert all(is_same(a, b, atol=1e-6) for a, b in zip(ask(rows), answers, strict=True))


def test_k_above_the_vocabulary_is_the_vocabulary(at: Endpoint) -> None:
    info = KdlightServer().discover(at, None)
    (all_of_them,) = KdlightServer().score(at, info, [[5]], None)
    (more,) = KdlightServer().score(at, info, [[5]], 1000)
    assert is_same(all_of_them, more)


def test_a_refused_request_says_what_to_do() -> None:
    with server(limits=Limits(k=5)) as running:
        at = endpoint(running, retries=8)
        info = KdlightServer().discover(at, None)
        assert info.max_k == 5
        with pytest.raises(RequestRefused, match="ask for at most 5, or start the server") as error:
            KdlightServer().score(at, info, SEQUENCES, 6)
        assert error.value.status == 400
        with pytest.raises(RequestRefused, match="returns no hidden states"):
            KdlightServer().states(at, info, SEQUENCES)
        with pytest.raises(RequestRefused, match="returns no hidden states"):
            KdlightServer().head(at, info)
        at.close()


def test_bits_are_known_ones() -> None:
    with pytest.raises(ValueError, match="bits must be one of"):
        KdlightServer(bits=9)


INFO = {"kdlight": "0.3", "protocol": "1", "model": "m", "vocab_size": 9, "dtype": "float32"}


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ({}, ServerError, "is no server of kdlight"),
        ([], ServerError, "is no server of kdlight"),
        ({**INFO, "protocol": "9"}, ServerError, "kdlight 0.3 with protocol '9'"),
        ({**INFO, "vocab_size": "9"}, ValueError, "vocab_size of the server is '9', no int"),
        ({**INFO, "max_k": 5.0}, ValueError, "max_k of the server is 5.0"),
        ({**INFO, "model": None}, ValueError, "model of the server is None"),
    ],
)
def test_another_server_is_noticed(answer: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        _read_info(answer, Endpoint("http://localhost:1"))
