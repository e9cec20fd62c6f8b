"""A student learns from a teacher with another tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kdlight import CausalLM, DistillationModule
from kdlight.data import TeacherTokens, TwoTokenizersDataModule
from kdlight.data.two_tokenizers_module import split_passages
from kdlight.objectives import ULD, CrossEntropy, MultiLevelOT, Weighted
from tests.data.conftest import TEXTS
from tests.support import toy


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


def module_of(letters: Any, pieces: Any, folder: Path, count: int, **options: Any) -> Any:
    path = folder / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS[:count]))
    return TwoTokenizersDataModule(letters, pieces, str(path), characters=9, **options)


def test_passages_are_split_by_document(letters: Any, pieces: Any, tmp_path: Path) -> None:
    data = module_of(letters, pieces, tmp_path, 10, validation_fraction=0.3)
    train, validation = ("".join(part.samples) for part in data.parts)
    assert sum(text in validation for text in TEXTS[:10]) == 3
    assert sum(text in train for text in TEXTS[:10]) == 7
    batch = next(iter(data.val_dataloader()))
    assert batch["input_ids"].shape[0] == batch["teacher_mask"].shape[0] == data.batch_size


def test_one_document_cannot_be_split(letters: Any, pieces: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold at least 2 documents.*got 1"):
        module_of(letters, pieces, tmp_path, 1).setup()
    with pytest.raises(ValueError, match="characters must be at least 1, got 0"):
        TwoTokenizersDataModule(letters, pieces, characters=0)


def test_a_passage_ends_with_a_word_unless_the_word_is_too_long() -> None:
    text = "some words and then averyveryverylongword at the end"
    pieces = split_passages(text, 10)
    assert "".join(pieces) == text
    assert pieces[:4] == ["some words", " and then", " averyvery", "verylongwo"]
    assert max(map(len, pieces)) <= 10
