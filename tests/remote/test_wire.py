"""Answers come back as they were, belong to their request, and are small."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlight.remote.sealed import seal
from kdlight.remote.wire import (
    TeacherRequest,
    decode_request,
    decode_scores,
    decode_states,
    encode_request,
    encode_scores,
    encode_states,
)
from tests.support.scored import is_same, scored

LENGTHS, V = [4, 1, 6], 50


def read_request(kind: Any = "score", *, bits: int = 32, first: int = 0) -> TeacherRequest:
    rows = [[first, *range(1, length)] for length in LENGTHS]
    return decode_request(encode_request(TeacherRequest(kind, rows, k=5, bits=bits))[0])


def decode(content: bytes, request: TeacherRequest, *, vocabulary: int | None = V) -> Any:
    return decode_scores(
        content,
        kind=request.kind,
        request=request.checksum,
        lengths=request.lengths,
        vocabulary=vocabulary,
    )


@pytest.mark.parametrize("vocabulary", [V, None])
def test_exact_scores_come_back(vocabulary: int | None) -> None:
    request, before = read_request(), scored(LENGTHS, k=5, vocabulary=V)
    after = decode(encode_scores(before, request, vocabulary=V), request, vocabulary=vocabulary)
    assert all(map(is_same, before, after))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_states_come_back(dtype: torch.dtype) -> None:
    request = read_request("states")
    before = [torch.randn(length, 8).to(dtype) for length in LENGTHS]
    content = encode_states(before, request)
    after = decode_states(content, request=request.checksum, lengths=LENGTHS)
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("shape", [(4, 128), (16, 256)])
def test_a_position_takes_at_most_131_bytes(shape: tuple[int, int]) -> None:
    rows, length = shape
    vocabulary = 49_152
    scores = scored([length] * rows, k=50, vocabulary=vocabulary)
    ids = [[1] * length] * rows
    request = decode_request(encode_request(TeacherRequest("score", ids, k=50, bits=8))[0])
    content = encode_scores(scores, request, vocabulary=vocabulary)
    assert len(content) / (rows * length) <= 131


@pytest.mark.parametrize("bits", [8, 32])
def test_the_answer_to_another_request_is_refused(bits: int) -> None:
    request, other = (read_request(bits=bits, first=first) for first in (0, 1))
    content = encode_scores(scored(LENGTHS, k=5, vocabulary=V), other, vocabulary=V)
    with pytest.raises(ValueError, match="the answer to another request"):
        decode(content, request)


def test_an_answer_of_another_kind_is_refused() -> None:
    states = read_request("states")
    content = encode_states([torch.zeros(length, 2) for length in LENGTHS], states)
    with pytest.raises(ValueError, match="the answer to another request"):
        decode(content, read_request())


def test_another_vocabulary_is_refused() -> None:
    request = read_request()
    content = encode_scores(scored(LENGTHS, k=5, vocabulary=V), request, vocabulary=V)
    with pytest.raises(ValueError, match="50 tokens instead of 51"):
        decode(content, request, vocabulary=51)


@pytest.mark.parametrize("states", [None, torch.zeros(10, 2), torch.zeros(11)])
def test_states_of_other_positions_are_refused(states: torch.Tensor | None) -> None:
    fields = {"protocol": "1", "kind": "states", "request": "r"}
    content = seal({} if states is None else {"states": states}, fields)
    with pytest.raises(ValueError, match="expected states of 11 positions"):
        decode_states(content, request="r", lengths=LENGTHS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entries": "-1"}, "no number 'entries'"),
        ({"entries": "1"}, ".+"),
        ({"vocabulary": ""}, "no number 'vocabulary'"),
        ({"bits": "9"}, "9 bits"),
        ({"protocol": "2"}, "protocol '2'"),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(change: dict[str, str], message: str) -> None:
    request, scores = read_request(), scored(LENGTHS, k=5, vocabulary=V)
    fields, tensors, _ = opened(encode_scores(scores, request, vocabulary=V))
    with pytest.raises(ValueError, match=message):
        decode(seal(tensors, {**fields, **change}), request)


def opened(content: bytes) -> Any:
    from kdlight.remote.sealed import open_sealed

    return open_sealed(content)


REQUEST = read_request(bits=8)
ANSWER = encode_scores(scored(LENGTHS, k=5, vocabulary=V), REQUEST, vocabulary=V)


@settings(deadline=None)  # a machine may be busy
@given(st.integers(0, len(ANSWER) - 1), st.integers(1, 255))
def test_every_changed_byte_of_an_answer_is_noticed(place: int, change: int) -> None:
    changed = bytearray(ANSWER)
    changed[place] ^= change
    with pytest.raises(ValueError, match="bytes that"):
        decode(bytes(changed), REQUEST)


@settings(deadline=None)  # a machine may be busy
@given(st.integers(0, len(ANSWER) - 1))
def test_every_cut_of_an_answer_is_noticed(size: int) -> None:
    with pytest.raises(ValueError, match="bytes that"):
        decode(ANSWER[:size], REQUEST)
