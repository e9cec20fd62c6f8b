"""What a request asks too much of is refused, with what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kdlight.remote.wire import TeacherRequest, encode_request
from kdlight.serve.limits import Limits, Refusal

INFO = {"context_length": 8, "vocab_size": 20, "input_size": 25, "states": None}


def top(*sequences: list[int], k: int | None = 5) -> TeacherRequest:
    return TeacherRequest("score", list(sequences), k=k)


def given(*ids: int) -> TeacherRequest:
    return TeacherRequest("score_ids", [[1]], ids=[np.array([ids])])


@pytest.mark.parametrize(
    ("request_", "limits", "status", "message"),
    [
        (top([1] * 6, [1] * 5), {"max_tokens": 10}, 413, "11 tokens, at most 10 .* fewer seq"),
        (top([1] * 9), {}, 400, "9 tokens, but the context of the teacher is 8"),
        (top([1], k=6), {"k": 5}, 400, "6 tokens .* the k of this server is 5; .*--k 6"),
        (top([1], k=None), {"k": 5}, 400, "all tokens of each position"),
        (top([1, 25]), {}, 400, "token id 25 is not among the 25 tokens"),
        (top([1, -1]), {}, 400, "token id -1"),
        (given(1, 2, 3), {"k": 2}, 400, "3 tokens of each position"),
        (given(1, 20), {}, 400, "token id 20 is not among the 20 tokens"),
        (given(-1, 2), {}, 400, "token id -1"),
        (top([1] * 4), {"entries": 19}, 413, "4 positions with 5 tokens"),
        (top([1] * 4, k=None), {"k": None, "entries": 79}, 413, "more than the 79"),
        (TeacherRequest("states", [[1]]), {}, 400, "no hidden states; start it with --states"),
    ],
)
def test_too_much_is_refused(
    request_: TeacherRequest, limits: dict[str, Any], status: int, message: str
) -> None:
    with pytest.raises(Refusal, match=message) as error:
        Limits(**limits).check(request_, INFO)
    assert error.value.status == status


@pytest.mark.parametrize(
    ("request_", "limits"),
    [
        (top([1] * 6, [24] * 4), {"max_tokens": 10}),
        (top([1] * 8), {}),
        (top([1], k=None), {}),  # 50 tokens are more than all
        (top([1], k=99), {"k": 20}),
        (top([1] * 4, k=None), {"k": None, "entries": 80}),
        (given(0, 19), {"k": 2}),
    ],
)
def test_the_largest_request_is_answered(request_: TeacherRequest, limits: dict[str, Any]) -> None:
    Limits(**limits).check(request_, INFO)


def test_states_and_any_length_where_there_is_no_limit() -> None:
    request = TeacherRequest("states", [[1] * 99])
    Limits().check(request, {**INFO, "context_length": None, "states": "float32"})


@pytest.mark.parametrize("k", [1, 50])
def test_the_bytes_hold_the_largest_request(k: int) -> None:
    limits = Limits(k=k, max_tokens=300)
    for length in (1, 300):
        rows = [[9] * length] * (300 // length)
        ids = [np.full((length, k), 9) for _ in rows]
        content, _ = encode_request(TeacherRequest("score_ids", rows, ids=ids))
        assert len(content) <= limits.max_bytes


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"k": 0}, ValueError),
        ({"max_tokens": 0}, ValueError),
        ({"queue": 0}, ValueError),
        ({"queue": 1.5}, TypeError),
    ],
)
def test_limits_are_numbers_above_0(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Limits(**options)
