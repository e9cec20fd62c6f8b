"""Text-keyed servers: one text for each id, or refused; and log-probabilities at their place."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from kdlight import CausalLM, FrozenTeacher, RemoteTeacher, TopK
from kdlight.endpoints import Endpoint
from kdlight.remote import ServerInfo
from kdlight.remote.dialects.text_keyed import TextKeyed, read_echo
from kdlight.remote.position_check import check_positions
from tests.remote.recordings import Recording
from tests.support import tiny_lm
from tests.support.http_server import Asked, Decide, Reply, http_server

RECORDED = Recording("llama_cpp_python_0.3.36.json")


def recorded(name: str, ids: dict[str, int]) -> Any:
    echo = RECORDED[name]["answer"]["choices"][0]["logprobs"]
    texts = echo["tokens"]
    for text in [*texts, *(t for each in echo["top_logprobs"][1:] for t in each)]:
        ids.setdefault(text, len(ids))
    return read_echo(RECORDED[name]["answer"], [ids[t] for t in texts], texts, ids, 3)


def test_a_recorded_answer_is_read() -> None:
    ids: dict[str, int] = {}
    found = recorded("cat loves", ids)
    texts = {number: text for text, number in ids.items()}
    assert {texts[i] for i in found.ids[found.positions == 1].tolist()} == {
        " number",
        " function",
        " sum",
    }
    assert np.array_equal(np.unique(found.positions), np.arange(4))


def test_the_recorded_server_shifts_log_probabilities_and_is_refused() -> None:
    """After "Hello," it returns what follows "Hello, the": those of a token change with it."""
    ids: dict[str, int] = {}
    found = [recorded(name, ids) for name in ("cat loves", "cat is", "dog loves")]
    with pytest.raises(ValueError, match="shifted: those of a token change with the token itself"):
        check_positions(lambda _: found, [1, 2, 3, 4, 5, 6], "the server")


def text_server(network: Any, tokenizer: Any) -> Decide:
    """A server of this protocol that is right."""

    def decide(asked: Asked, number: int) -> Reply:
        if asked.path == "/v1/models":
            return Reply({"data": [{"id": "teacher"}]})
        if asked.path != "/v1/completions":
            return Reply("no", 404)
        body = asked.json()
        ids = tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            log_p = network({"input_ids": torch.tensor([ids])}).logits()[0].log_softmax(-1)
        top: list[Any] = [None]
        for position, own in enumerate(ids[1:]):
            best = log_p[position].topk(body["logprobs"])
            entries = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            kept = {**dict(entries), own: float(log_p[position, own])}
            top.append({tokenizer.decode([i]): value for i, value in kept.items()})
        texts = [tokenizer.decode([i]) for i in ids]
        return Reply({"choices": [{"logprobs": {"tokens": texts, "top_logprobs": top}}]})

    return decide


def test_a_server_with_one_text_for_each_id_is_a_teacher() -> None:
    network, tokenizer = CausalLM.wrap(tiny_lm.model().eval()), tiny_lm.tokenizer()
    ids = torch.tensor([tokenizer("tokens and texts")["input_ids"]])
    with http_server(text_server(network, tokenizer)) as server:
        teacher = RemoteTeacher(server.url, k=5, dialect="text", vocab_size=102, retries=0)
        with pytest.raises(ValueError, match="the tokenizer must be known"):
            teacher({"input_ids": ids})
        teacher.check_tokenizer(tokenizer)
        answer = teacher({"input_ids": ids})
    assert isinstance(answer, TopK)
    wanted = TopK.of(FrozenTeacher(network)({"input_ids": ids}).logits(), 5)
    found = answer.log_probs.sort(-1, descending=True).values
    torch.testing.assert_close(found[:, :-1], wanted.log_probs[:, :-1], rtol=0, atol=1e-5)


def test_two_ids_of_one_text_are_named() -> None:
    class Ambiguous:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0, "b": 1, "c": 2}

        def decode(self, ids: list[int]) -> str:
            return "ab\N{REPLACEMENT CHARACTER}"[ids[0]] if ids[0] != 1 else "a"

    info = ServerInfo("a server", "teacher")
    with pytest.raises(ValueError, match="the tokens 0 and 1 of the tokenizer have one text, 'a'"):
        TextKeyed().check_tokenizer(Endpoint("http://localhost:1"), info, Ambiguous())


def test_other_tokens_than_those_of_the_sequence_are_refused() -> None:
    answer = copy.deepcopy(RECORDED["cat loves"]["answer"])
    texts = ["Hello", ",", " the", " ca", "t"]
    ids = {text: i for i, text in enumerate(texts)}
    with pytest.raises(ValueError, match=r"number 3 is \[' cat'\] instead of \[' ca'\]"):
        read_echo(answer, [0, 1, 2, 3, 4], texts, ids, 3)
    with pytest.raises(ValueError, match="no choice"):
        read_echo({"choices": []}, [0], ["a"], {"a": 0}, 3)
