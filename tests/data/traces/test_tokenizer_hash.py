"""Two tokenizers are told apart by what they do."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces.tokenizer_hash import hash_generation_config, hash_tokenizer
from tests.support import tiny_lm


def test_the_same_tokenizer_has_the_same_hash(tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert hash_tokenizer(saved) == hash_tokenizer(saved)
    assert hash_tokenizer(tiny_lm.tokenizer(chat=True)) == hash_tokenizer(tokenizer)


def change_template(tokenizer: Any) -> None:
    tokenizer.chat_template += " "


def change_end(tokenizer: Any) -> None:
    tokenizer.eos_token = "<unknown>"


def add_token(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<rare word>"])


@pytest.mark.parametrize("change", [change_template, change_end, add_token])
def test_another_tokenizer_has_another_hash(change: Any) -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    before = hash_tokenizer(tokenizer)
    change(tokenizer)
    assert hash_tokenizer(tokenizer) != before


def test_a_generation_config_counts_but_not_its_version() -> None:
    model = tiny_lm.model()
    before = hash_generation_config(model)
    model.generation_config.transformers_version = "0"
    assert hash_generation_config(model) == before
    model.generation_config.repetition_penalty = 1.5
    assert hash_generation_config(model) != before
