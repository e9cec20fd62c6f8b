"""Texts to classify: their words, their labels, their split and their padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.data import docstrings_module
from kdlight.data.docstrings_module import (
    PADDING,
    SEPARATOR,
    START,
    UNKNOWN,
    DocstringsDataModule,
    pad_texts,
)

FILES = {
    "red": [
        [f"Red{'x' * (i + 1)} apples of numpy. They are red and np sweet{i}."] for i in range(8)
    ],
    "blue": [["Blue water flows"], *([f"Blue{'y' * i} sea"] for i in range(7))],
}


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put eight files of each of two packages in place of installed ones."""
    monkeypatch.setattr(
        docstrings_module, "read_docstrings", lambda package, limit, seed: FILES[package][:limit]
    )


def module(**options: Any) -> DocstringsDataModule:
    return DocstringsDataModule(**{"packages": ["red", "blue"], "batch_size": 3, **options})


@pytest.mark.usefixtures("texts")
def test_files_are_in_one_part() -> None:
    train, validation = module(validation_fraction=0.25).parts
    assert [len(train), len(validation)] == [12, 4]
    assert [int(each["labels"]) for each in validation] == [0, 0, 1, 1]
    # the first two files of each are held out, so that their own words are not known
    assert all(UNKNOWN in each["input_ids"] for each in validation if int(each["labels"]) == 0)


@pytest.mark.usefixtures("texts")
def test_a_text_is_two_segments_without_the_names() -> None:
    data = module(validation_fraction=0.25)
    sample = data.parts[0][0]  # Redxxx apples of numpy. They are red and np sweet2.
    ids, types = sample["input_ids"].tolist(), sample["token_type_ids"].tolist()
    # redxxx apples of numpy | they are and sweet: red is a name, np a hidden word
    assert len(ids) == 1 + 4 + 1 + 4 + 1
    assert types == [0] * 6 + [1] * 5
    assert (ids[0], ids[5], ids[-1]) == (START, SEPARATOR, SEPARATOR)
    shown = module(validation_fraction=0.25, hidden_words=[]).parts[0][0]
    assert len(shown["input_ids"]) == len(ids) + 1


@pytest.mark.usefixtures("texts")
def test_long_texts_are_cut_and_rare_words_unknown() -> None:
    data = module(max_length=6, vocabulary_size=6)
    for part in data.parts:
        for sample in part:
            assert len(sample["input_ids"]) <= 6
            assert int(sample["input_ids"].max()) < 6
            assert len(sample["token_type_ids"]) == len(sample["input_ids"])


@pytest.mark.usefixtures("texts")
def test_padding_is_at_the_end_and_masked() -> None:
    for batch in module().train_dataloader():
        mask = batch["attention_mask"]
        assert mask.shape == batch["input_ids"].shape == batch["token_type_ids"].shape
        assert int(mask.sum(-1).max()) == mask.shape[1]
        assert (batch["input_ids"][mask == 0] == PADDING).all()
        assert (batch["input_ids"][mask == 1] != PADDING).all()


def test_a_batch_is_what_bert_reads() -> None:
    from kdlight.models import call_network
    from tests.families.family import transformers

    samples = [
        {
            "input_ids": torch.tensor([START, *[5] * n, SEPARATOR]),
            "token_type_ids": torch.tensor([0] * (n + 2)),
            "labels": torch.tensor(n % 2),
        }
        for n in (1, 4)
    ]
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    bert = transformers.BertForSequenceClassification(config).eval()
    together = call_network(bert, pad_texts(samples)).logits()
    alone = call_network(bert, pad_texts(samples[:1])).logits()
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_installed_packages_are_read() -> None:
    data = DocstringsDataModule(per_package=30)
    train, validation = data.parts
    assert {int(each["labels"]) for each in train} == set(range(6))
    assert {int(each["labels"]) for each in validation} == set(range(6))
    again = DocstringsDataModule(per_package=30).parts[0]
    assert all(
        torch.equal(one["input_ids"], other["input_ids"])
        for one, other in zip(train, again, strict=True)
    )


@pytest.mark.usefixtures("texts")
def test_a_package_of_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "blue", [["Blue water flows"]])
    with pytest.raises(ValueError, match="'blue' has docstrings in 1 files"):
        _ = module().parts


@pytest.mark.parametrize(
    "wrong",
    [
        {"packages": ["numpy"]},
        {"packages": ["numpy", "numpy"]},
        {"per_package": 1},
        {"max_length": 3},
        {"vocabulary_size": 4},
        {"validation_fraction": 0.0},
        {"batch_size": 0},
    ],
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DocstringsDataModule(**wrong)


@pytest.mark.parametrize("wrong", [{"packages": "numpy"}, {"hidden_words": [1]}])
def test_arguments_of_another_kind(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        DocstringsDataModule(**wrong)
