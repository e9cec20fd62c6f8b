"""The tokens that end a text, with a real language model and tokenizer."""

from __future__ import annotations

from kdlight import CausalLM
from kdlight.models.end_tokens import cut_at_end, decode, end_tokens
from tests.support import tiny_lm, toy


def test_model_and_tokenizer_both_count() -> None:
    student, tokenizer = toy.llama(), tiny_lm.tokenizer()
    assert end_tokens(student, tokenizer) == [0]
    tokenizer.eos_token = "a"
    assert end_tokens(student, tokenizer) == [0, tokenizer.eos_token_id]
    assert end_tokens(toy.ToyLM(), None) == []


def test_a_hugging_face_model_tells_its_ends_itself() -> None:
    model = tiny_lm.model()
    model.generation_config.eos_token_id = [3, 5]
    assert end_tokens(model, None) == [3, 5]  # its decoder, model.model, has no ends
    assert end_tokens(CausalLM.wrap(model), tiny_lm.tokenizer()) == [0, 3, 5]


def test_a_text_is_cut_at_any_end() -> None:
    assert cut_at_end([7, 8, 2, 2], [0, 2]) == ([7, 8], True)
    assert cut_at_end([0, 8], [0, 2]) == ([], True)
    assert cut_at_end([7, 8], [0, 2]) == ([7, 8], False)


def test_special_tokens_and_spaces_are_written_as_they_are() -> None:
    tokenizer = tiny_lm.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]"]})
    tokenizer.clean_up_tokenization_spaces = True
    text = "[THINK]a , b ."
    assert decode(tokenizer, tokenizer(text)["input_ids"]) == text
