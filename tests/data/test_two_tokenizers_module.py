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


def llama(tokenizer: Any, seed: int, context: int = 128) -> CausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=context,
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


@pytest.mark.parametrize("short", ["student", "teacher"])
def test_a_passage_longer_than_a_context_is_refused(
    short: str, letters: Any, pieces: Any, tmp_path: Path
) -> None:
    contexts = {"student": 10, "teacher": 6}  # a passage of 9 characters has 11 and 7 or fewer
    data = module_of(letters, pieces, tmp_path, 10)
    longest = max(len(row["teacher_input_ids"]) for part in data.parts for row in part)
    contexts["teacher"] = longest - 1
    tokenizers = {"student": letters, "teacher": pieces}
    networks = {
        name: llama(tokenizers[name], 0, contexts[name] if name == short else contexts[name] + 1)
        for name in contexts
    }
    module = DistillationModule(
        student=networks["student"], teacher=TeacherTokens(networks["teacher"]), objective=ULD()
    )
    tokens = contexts[short] + 1
    message = f"longest passage has {tokens} tokens, .* the {short} is {tokens - 1}; set max_length"
    with pytest.raises(ValueError, match=message):
        toy.trainer(tmp_path).fit(module, data)
    cut = module_of(letters, pieces, tmp_path, 10, max_length=min(contexts.values()))
    toy.trainer(tmp_path, max_steps=1).fit(module, cut)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"characters": 1.5}, "characters"),
        ({"max_length": 1}, "max_length"),
        ({"text_field": 5}, "text_field"),
        ({"files": 5}, "files"),
        ({"tokenizer": 5}, "tokenizer"),
        ({"teacher_tokenizer": None}, "teacher_tokenizer"),
        ({"validation_fraction": -0.1}, "validation_fraction"),
        ({"num_workers": -1}, "num_workers"),
        ({"seed": 2**70}, "seed"),
    ],
)
def test_arguments_of_another_kind_are_refused(
    options: dict[str, Any], name: str, letters: Any, pieces: Any
) -> None:
    arguments = {"tokenizer": letters, "teacher_tokenizer": pieces, **options}
    with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
        TwoTokenizersDataModule(**arguments)
