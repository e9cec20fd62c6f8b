"""Tokenizers and text files that the tests of data share."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [f"line {i} says that {i} is {'odd' if i % 2 else 'even'}, and so on" for i in range(30)]


@pytest.fixture(scope="package")
def letters() -> Any:
    """A tokenizer with one token per character, 0 at the end of a text, and no start token."""
    characters = {each: i for i, each in enumerate(["<end>", "<unknown>", *string.printable])}
    backend = Tokenizer(models.WordLevel(characters, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


@pytest.fixture
def tokenizer(letters: Any) -> Any:
    """The tokenizer of a test that needs only one."""
    return letters


@pytest.fixture(scope="package")
def pieces() -> Any:
    """A tokenizer trained on `TEXTS`, whose tokens are parts of words, with a start token."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=90, special_tokens=special))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A file of 40 documents, each with a word that no other has."""
    rows = [f"document {index} " + f"word{index} " * (index % 7 + 1) for index in range(40)]
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    return [str(tmp_path / "text.jsonl")]
