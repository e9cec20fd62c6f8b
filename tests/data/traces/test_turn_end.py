"""The end of a turn is what a model is to write, once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kdlight.data.traces.turn_end import special_tokens, turn_end
from tests.support import tiny_lm


@pytest.fixture
def tokenizer() -> Any:
    made = tiny_lm.tokenizer(chat=True)
    made.add_special_tokens({"additional_special_tokens": ["<turn>", "<turn>s"]})
    return made


@pytest.mark.parametrize(
    ("response", "after", "expected"),
    [
        ("7", "<turn>\n<end>", ("<turn>", True)),  # what follows belongs to the template
        ("7", " <end>\n", (" <end>", True)),
        ("7<turn>", "<turn>\n", ("", True)),
        ("7<turn>", "<turn><end>", ("<end>", True)),
        ("7", "\n", ("\n", False)),
        ("7<end>", "\n", ("", True)),
        ("7", "", ("", False)),
    ],
)
def test_an_end_ends_with_special_tokens_that_are_not_repeated(
    response: str, after: str, expected: tuple[str, bool], tokenizer: Any
) -> None:
    assert turn_end(response, after, tokenizer) == expected


def test_without_an_end_token_nothing_ends_a_response(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    assert turn_end("7", "\n", tokenizer) == ("\n", False)
    assert turn_end("", "", tokenizer) == ("", False)


def test_the_longest_token_is_found_and_new_ones_are_seen(tokenizer: Any) -> None:
    assert re.findall(special_tokens(tokenizer), "<turn>s<turn>") == ["<turn>s", "<turn>"]
    before = special_tokens(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<more>"]})
    assert "<more>" in special_tokens(tokenizer)
    assert "<more>" not in before
