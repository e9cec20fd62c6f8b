"""Both models get the same text, each in its own tokens."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from kdlight.data import TwoTokenizers
from tests.data.conftest import TEXTS


def test_both_sides_hold_the_same_text(letters: Any, pieces: Any) -> None:
    samples = [("line 3 says", " that 3 is odd"), TEXTS[4]]
    batch = TwoTokenizers(letters, pieces)(samples)
    assert batch["input_ids"].shape != batch["teacher_input_ids"].shape
    for row, answer in enumerate([" that 3 is odd", TEXTS[4]]):
        kept = batch["labels"][row] != -100
        ids = batch["input_ids"][row][kept]
        assert letters.decode(ids[:-1]).replace(" ", "") == answer.replace(" ", "")
        assert ids[-1] == letters.eos_token_id
        # logits count one place before the token that they predict
        predicted = batch["teacher_input_ids"][row][batch["teacher_mask"][row].roll(1)]
        assert pieces.decode(predicted[:-1]).replace("▁", "").replace(" ", "") == (
            answer.replace(" ", "")
        )
        assert predicted[-1] == pieces.eos_token_id
        for side in ("", "teacher_"):
            length = batch[f"{side}attention_mask"][row].sum()
            assert not batch[f"{side}attention_mask"][row, length:].any()
    assert not batch["teacher_mask"][:, -1].any()


def test_long_texts_are_cut_on_both_sides(letters: Any, pieces: Any) -> None:
    batch = TwoTokenizers(letters, pieces, max_length=9)(["a long text " * 9])
    assert batch["input_ids"].shape == batch["teacher_input_ids"].shape == (1, 9)
    assert batch["teacher_mask"].sum() == (batch["labels"] != -100).sum() == 8


def test_arguments_out_of_range(letters: Any, pieces: Any) -> None:
    with pytest.raises(ValueError, match="max_length must be at least 2, got 1"):
        TwoTokenizers(letters, pieces, max_length=1)
    endless = PreTrainedTokenizerFast(tokenizer_object=letters.backend_tokenizer)
    with pytest.raises(ValueError, match="teacher_tokenizer has no end-of-text token"):
        TwoTokenizers(letters, endless)
