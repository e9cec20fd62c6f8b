"""The tokens that end a text, with a real language model and tokenizer."""

from __future__ import annotations

from kdlight.callbacks.generation.end_tokens import end_tokens
from tests.support import tiny_lm, toy


def test_model_and_tokenizer_both_count() -> None:
    student, tokenizer = toy.llama(), tiny_lm.tokenizer()
    assert end_tokens(student, tokenizer) == [0]
    tokenizer.eos_token = "a"
    assert end_tokens(student, tokenizer) == [0, tokenizer.eos_token_id]
    assert end_tokens(toy.ToyLM(), None) == []
