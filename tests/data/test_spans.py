"""Span ids of positions, from the text of the tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.data.spans import SpanIds, text_and_offsets, token_spans
from kdlight.objectives import DACKL, SpanKL, Weighted
from tests.support import tiny_lm, toy

TEXT = "The old cat sat, and left."


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_lm.tokenizer()  # a token a character


def ids(tokenizer: Any, text: str = TEXT) -> Tensor:
    return torch.tensor(tokenizer(text)["input_ids"])


def test_a_position_has_the_span_of_the_token_it_predicts(tokenizer: Any) -> None:
    found = SpanIds(tokenizer, "punctuation")(ids(tokenizer)).tolist()
    words = [i for i, sign in enumerate(TEXT) if sign.isalpha()]
    expected = [0 if i < 15 else 1 if i in words else -1 for i in range(len(TEXT))]
    expected = [-1 if not TEXT[i].isalpha() else e for i, e in enumerate(expected)]
    assert found == [*expected[1:], -1]


def test_each_word_is_a_span_and_one_of_one_token_is_none(tokenizer: Any) -> None:
    found = SpanIds(tokenizer, "words")(ids(tokenizer, "a bc def"))
    assert found.tolist() == [-1, 1, 1, -1, 2, 2, 2, -1]


def test_ngrams_count_tokens(tokenizer: Any) -> None:
    assert SpanIds(tokenizer, "ngrams:3")(torch.arange(7)).tolist() == [0, 0, 1, 1, 1, -1, -1]


def test_a_function_finds_its_own_and_must_find_what_is_there(tokenizer: Any) -> None:
    first_five: Callable[[str], list[tuple[int, int]]] = lambda text: [(0, 5)]  # noqa: E731
    assert SpanIds(tokenizer, first_five)(ids(tokenizer)).tolist()[:6] == [0, 0, -1, 0, -1, -1]
    for wrong in ([(0, 900)], [(4, 9), (2, 5)], [(0, 5), (3, 8)], [(3, 3)]):
        with pytest.raises(ValueError, match="does not fit: spans must lie in the text of 26"):
            SpanIds(tokenizer, lambda text, wrong=wrong: wrong)(ids(tokenizer))


def test_special_tokens_are_in_no_span_and_part_their_neighbours(tokenizer: Any) -> None:
    row = torch.cat([ids(tokenizer, "ab"), torch.tensor([0]), ids(tokenizer, "cd")])
    found = SpanIds(tokenizer, lambda text: [(0, len(text))])(row)
    assert found.tolist() == [0, -1, 0, 0, -1]


def test_tokens_that_the_text_would_not_give_still_stand_somewhere(tokenizer: Any) -> None:
    class Slow:
        is_fast = False
        decode = staticmethod(tokenizer.decode)

    row = ids(tokenizer).tolist()
    assert text_and_offsets(row, Slow()) == text_and_offsets(row, tokenizer)


def test_white_space_at_the_edges_of_a_token_does_not_count() -> None:
    assert token_spans("a  b", [(0, 1), (1, 4), (1, 3)], [(0, 1), (3, 4)]) == [0, 1, -1]


def test_a_fit_on_spans(tmp_path: Path) -> None:
    module = toy.module(Weighted({"dac": DACKL(), "span": SpanKL()}), network="llama")

    def with_spans(rows: Any) -> dict[str, Tensor]:
        batch = toy.pad(rows)
        every = torch.stack([SpanIds(None, "ngrams:3")(row) for row in batch["input_ids"]])
        return {**batch, "span_ids": every}

    data = toy.loader(4)
    loader = torch.utils.data.DataLoader(data.dataset, 4, collate_fn=with_spans)
    trainer = toy.trainer(tmp_path, max_steps=2)
    trainer.fit(module, loader)
    assert trainer.callback_metrics["train/span"] > 0
