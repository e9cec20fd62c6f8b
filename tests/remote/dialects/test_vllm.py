"""The parsing of vLLM's answers, from a recorded exchange, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from kdlight.endpoints import Endpoint, UnusableAnswer
from kdlight.remote import ServerInfo
from kdlight.remote.dialects.vllm import VLLM, read_choices
from tests.remote.recordings import Recording, replayed
from tests.support.http_server import Reply, http_server

RECORDED = Recording("vllm_0.32.0.json")
SCORES = RECORDED["scores"]
SEQUENCES = SCORES["request"]["prompt"]
K = SCORES["request"]["prompt_logprobs"]
VOCABULARY = 102


def test_it_tells_what_it_serves() -> None:
    with http_server(replayed(RECORDED, limits=(VOCABULARY, 64))) as server:
        info = VLLM().discover(Endpoint(server.url, retries=0), None)
    assert info.software == "vLLM 0.32.0"
    assert (info.model, info.context_length) == ("student", 127)
    assert (info.vocab_size, info.max_k) == (VOCABULARY, 64)


def test_a_recorded_answer_is_read() -> None:
    found = read_choices(SCORES["answer"], SEQUENCES, K, VOCABULARY)
    for sequence, tokens, choice in zip(found, SEQUENCES, SCORES["answer"]["choices"], strict=True):
        assert sequence.length == len(tokens)
        assert np.array_equal(np.unique(sequence.positions), np.arange(len(tokens) - 1))
        for position in range(len(tokens) - 1):
            entries = choice["prompt_logprobs"][position + 1]
            wanted = {int(i): e["logprob"] for i, e in entries.items() if e["rank"] <= K}
            here = sequence.positions == position
            values = sequence.log_probs[here].tolist()
            assert dict(zip(sequence.ids[here].tolist(), values, strict=True)) == pytest.approx(
                wanted, abs=1e-6
            )
            rest = 1 - np.exp(list(wanted.values())).sum()
            assert sequence.log_tails[position] == pytest.approx(np.log(rest), abs=1e-5)


def test_a_request_is_sent_as_recorded() -> None:
    with http_server(replayed(RECORDED, limits=(VOCABULARY, 64))) as server:
        endpoint = Endpoint(server.url, retries=0)
        info = VLLM().discover(endpoint, None)
        VLLM().score(endpoint, info, SEQUENCES, K)
        assert server.asked[-1].json() == SCORES["request"]


def test_another_order_of_choices_is_put_right() -> None:
    answer = copy.deepcopy(SCORES["answer"])
    answer["choices"].reverse()
    one = read_choices(answer, SEQUENCES, K, VOCABULARY)
    other = read_choices(SCORES["answer"], SEQUENCES, K, VOCABULARY)
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(one, other, strict=True))


def swap_rows(answer: Any) -> None:
    first, second = answer["choices"]
    first["index"], second["index"] = second["index"], first["index"]


def drop_position(answer: Any) -> None:
    answer["choices"][0]["prompt_logprobs"].pop()


def shift_positions(answer: Any) -> None:
    scored = answer["choices"][1]["prompt_logprobs"]
    scored[1:] = [*scored[2:], scored[1]]


def entry(answer: Any) -> Any:
    entries = answer["choices"][0]["prompt_logprobs"][2]
    return next(iter(entries.values()))


def set_nan(answer: Any) -> None:
    entry(answer)["logprob"] = float("nan")


def set_positive(answer: Any) -> None:
    entry(answer)["logprob"] = 0.5


def set_text(answer: Any) -> None:
    entry(answer)["logprob"] = "low"


def drop_logprob(answer: Any) -> None:
    del entry(answer)["logprob"]


def out_of_range(answer: Any) -> None:
    entries = answer["choices"][0]["prompt_logprobs"][2]
    other = next(i for i in entries if int(i) != SEQUENCES[0][2])
    entries[str(VOCABULARY)] = entries.pop(other)


def drop_token(answer: Any) -> None:
    entries = answer["choices"][0]["prompt_logprobs"][2]
    for i in [i for i in entries if int(i) != SEQUENCES[0][2]][:2]:
        del entries[i]


def too_much_mass(answer: Any) -> None:
    for each in answer["choices"][0]["prompt_logprobs"][2].values():
        each["logprob"] = -0.1


def drop_choices(answer: Any) -> None:
    del answer["choices"]


def drop_row(answer: Any) -> None:
    answer["choices"].pop()


def no_scores(answer: Any) -> None:
    answer["choices"][0]["prompt_logprobs"] = None


FAULTS = [
    *(swap_rows, drop_position, shift_positions, set_nan, set_positive, set_text, drop_logprob),
    *(out_of_range, drop_token, too_much_mass, drop_choices, drop_row, no_scores),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_wrong_answer_is_never_read(fault: Any) -> None:
    answer = copy.deepcopy(SCORES["answer"])
    fault(answer)
    with pytest.raises(ValueError, match=".+"):
        read_choices(answer, SEQUENCES, K, VOCABULARY)


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"choices": [null, 1]}', '"text"'])
def test_another_json_is_no_answer(content: str) -> None:
    info = ServerInfo("vLLM", "student", VOCABULARY)
    with http_server(lambda *_: Reply(content.encode())) as server:
        endpoint = Endpoint(server.url, retries=3, longest_pause=0.01)
        with pytest.raises(UnusableAnswer, match="an answer that cannot be used"):
            VLLM().score(endpoint, info, SEQUENCES, K)


def test_another_name_is_told() -> None:
    with (
        http_server(replayed(RECORDED, limits=(VOCABULARY, 64))) as server,
        pytest.raises(ValueError, match=r"model is 'other', but .* has \['student'\]"),
    ):
        VLLM().discover(Endpoint(server.url, retries=0), "other")
