"""A student and a teacher with different tokenizers, from text to a trained student."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kdlight import CausalLM, DistillationModule
from kdlight.data import TeacherTokens, TwoTokenizers, TwoTokenizersDataModule
from kdlight.objectives import ULD, CrossEntropy, MultiLevelOT, Weighted
from tests.support import toy

TEXTS = [f"line {i} says that {i} is {'odd' if i % 2 else 'even'}, and so on" for i in range(30)]


@pytest.fixture(scope="module")
def letters() -> Any:
    """A token a character, and no token that begins a text."""
    signs = {sign: i for i, sign in enumerate(["<end>", "<unknown>", *string.printable])}
    backend = Tokenizer(models.WordLevel(signs, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


@pytest.fixture(scope="module")
def pieces() -> Any:
    """Pieces of words, learned on the spot, and a token that begins a text."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=90, special_tokens=special))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


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


def test_what_is_wrong_is_named(letters: Any, pieces: Any) -> None:
    with pytest.raises(ValueError, match="max_length must be at least 2, got 1"):
        TwoTokenizers(letters, pieces, max_length=1)
    endless = PreTrainedTokenizerFast(tokenizer_object=letters.backend_tokenizer)
    with pytest.raises(ValueError, match="teacher_tokenizer has no end-of-text token"):
        TwoTokenizers(letters, endless)
    with pytest.raises(ValueError, match="reads teacher_input_ids .* none: .'input_ids'"):
        TeacherTokens(torch.nn.Identity())({"input_ids": torch.zeros(1, 2)})


def llama(tokenizer: Any, seed: int) -> CausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=128,
        )
        return CausalLM.wrap(LlamaForCausalLM(config))


OBJECTIVES = {
    "uld": lambda: Weighted({"ce": CrossEntropy(), "uld": ULD()}, weights={"uld": 1.5}),
    "multi_level_ot": lambda: Weighted(
        {"ce": CrossEntropy(), "ot": MultiLevelOT(k=20)}, weights={"ot": 0.15}
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_student_learns_from_a_teacher_of_another_tokenizer(
    name: str, letters: Any, pieces: Any, tmp_path: Path
) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    data = TwoTokenizersDataModule(letters, pieces, str(path), characters=40, batch_size=8)

    def fresh() -> DistillationModule:
        return DistillationModule(
            student=llama(letters, 0),
            teacher=TeacherTokens(llama(pieces, 1)),
            objective=OBJECTIVES[name](),
            optimizer=lambda groups: torch.optim.AdamW(groups, lr=3e-2),
        )

    before = toy.trainer(tmp_path).validate(fresh(), data, verbose=False)[0]
    trainer, module = toy.trainer(tmp_path, max_epochs=4, num_sanity_val_steps=0), fresh()
    trainer.fit(module, data)
    term = trainer.callback_metrics["train/uld" if name == "uld" else "train/ot"]
    assert 0 < term < 20
    after = trainer.validate(module, data, verbose=False)[0]
    assert after["val/loss"] < 0.9 * before["val/loss"]
    assert after["val/perplexity"] < before["val/perplexity"]
    assert not [key for key in after if "teacher" in key or "kl" in key]
