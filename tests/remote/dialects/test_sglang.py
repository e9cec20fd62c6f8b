"""The parsing of SGLang's answers, written after the source of its version 0.5.23."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kdlight.endpoints import Endpoint, ServerError
from kdlight.remote import ServerInfo
from kdlight.remote.dialects.sglang import SGLang, read_generate
from tests.support.http_server import Asked, Reply, http_server

MODEL = {"model_path": "/models/teacher", "served_model_name": "teacher", "is_generation": True}
SETTINGS = {"version": "0.5.23", "context_length": 64}
SEQUENCES = [[5, 3, 8], [7, 2]]


def of(tokens: list[int], top: list[list[list[Any]]]) -> dict[str, Any]:
    scored = [[None, tokens[0], None], *([-3.0, token, None] for token in tokens[1:])]
    return {"meta_info": {"input_token_logprobs": scored, "input_top_logprobs": [None, *top]}}


ANSWER = [
    of(SEQUENCES[0], [[[-0.5, 7, None], [-2.0, 1, None]], [[-0.1, 4, None], [-3.0, 2, None]]]),
    of(SEQUENCES[1], [[[-1.0, 9, None], [-1.5, 0, None]]]),
]


def decide(asked: Asked, number: int) -> Reply:
    answers = {"/model_info": MODEL, "/server_info": SETTINGS, "/generate": ANSWER}
    return Reply(answers[asked.path]) if asked.path in answers else Reply("no", 404)


def test_an_exchange() -> None:
    with http_server(decide) as server:
        endpoint = Endpoint(server.url, retries=0)
        info = SGLang().discover(endpoint, None)
        assert info == ServerInfo("SGLang 0.5.23", "teacher", context_length=64)
        found = SGLang().score(endpoint, info, SEQUENCES, 2)
        sent = server.asked[-1].json()
    assert (sent["input_ids"], sent["top_logprobs_num"]) == (SEQUENCES, 2)
    assert (sent["return_logprob"], sent["logprob_start_len"]) == (True, 0)
    assert sent["sampling_params"]["max_new_tokens"] == 0
    assert [each.ids.tolist() for each in found] == [[1, 7, 2, 4], [0, 9]]
    assert found[0].positions.tolist() == [0, 0, 1, 1]
    assert found[0].log_probs.tolist() == pytest.approx([-2.0, -0.5, -3.0, -0.1])


def test_another_name_is_told() -> None:
    with http_server(decide) as server:
        with pytest.raises(ValueError, match="model is 'other', but .* has 'teacher'"):
            SGLang().discover(Endpoint(server.url, retries=0), "other")
        assert SGLang().discover(Endpoint(server.url, retries=0), "/models/teacher")


def test_another_server_is_told() -> None:
    with (
        http_server(lambda *_: Reply({"other": 1})) as server,
        pytest.raises(ServerError, match="no SGLang server"),
    ):
        SGLang().discover(Endpoint(server.url, retries=0), None)


def swap(answer: Any) -> None:
    answer.reverse()


def drop_row(answer: Any) -> None:
    answer.pop()


def drop_position(answer: Any) -> None:
    answer[0]["meta_info"]["input_top_logprobs"].pop()


def drop_token(answer: Any) -> None:
    answer[0]["meta_info"]["input_top_logprobs"][1].pop()


def set_null(answer: Any) -> None:
    answer[0]["meta_info"]["input_top_logprobs"][1][0][0] = None


def out_of_range(answer: Any) -> None:
    answer[0]["meta_info"]["input_top_logprobs"][1][0][1] = 10


def drop_scores(answer: Any) -> None:
    del answer[0]["meta_info"]


FAULTS = [swap, drop_row, drop_position, drop_token, set_null, out_of_range, drop_scores]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_wrong_answer_is_never_read(fault: Any) -> None:
    answer = copy.deepcopy(ANSWER)
    fault(answer)
    with pytest.raises(ValueError, match=".+"):
        read_generate(answer, SEQUENCES, 2, 10)
