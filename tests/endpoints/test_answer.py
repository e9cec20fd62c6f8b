from __future__ import annotations

import pytest

from kdlight.endpoints.answer import Answer


def test_json_is_read() -> None:
    assert Answer(200, {}, b"[1, null]").json() == [1, None]


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"a": 1', b"\xff\xfe"])
def test_what_is_no_json_is_told_with_its_beginning(content: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        Answer(200, {}, content).json()


def test_text_is_never_an_error() -> None:
    assert Answer(200, {}, b"a\xff").text == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2", 2.0), ("0.5", 0.5), ("-3", 0.0), ("nan", None), ("inf", None), ("Mon, 1 Jan", None)],
)
def test_a_pause_is_a_finite_number_of_seconds(header: str, seconds: float | None) -> None:
    assert Answer(429, {"Retry-After": header}, b"").retry_after == seconds
    assert Answer(429, {}, b"").retry_after is None
