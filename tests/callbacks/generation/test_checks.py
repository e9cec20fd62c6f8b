"""What a callback that generates text needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.callbacks.generation.checks import check_generates, check_tokenizer
from tests.support import toy


def test_a_network_must_have_generate() -> None:
    check_generates("OnPolicy", "student", toy.llama())
    with pytest.raises(ValueError, match="OnPolicy needs a teacher that generates text, and ToyLM"):
        check_generates("OnPolicy", "teacher", toy.ToyLM())


def test_the_data_module_must_have_a_tokenizer(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path)
    with pytest.raises(ValueError, match="takes the tokenizer from the data module, which has"):
        check_tokenizer("GenerationSamples", trainer)
