"""Which entries of a batch a transformers model gets, and the positions of its tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models.model_inputs import input_names, model_inputs
from tests.families.families import FAMILIES
from tests.families.family import CLASSES, maker, padded_left, tagged_text, transformers
from tests.families.of_text import BART, BERT

IDS = torch.tensor([[5, 6, 7, 8]])


def made(name: str) -> Any:
    return FAMILIES[name].make(0)


def test_every_input_is_passed_and_nothing_else() -> None:
    batch = {
        "input_ids": IDS,
        "inputs_embeds": None,
        "labels": IDS,
        "token_type_ids": torch.zeros_like(IDS),
        "index": torch.tensor([3]),
        "text": ["a"],
        "logits_to_keep": 1,
    }
    assert set(model_inputs(made("llama"), batch)) == {"input_ids", "use_cache"}
    assert set(model_inputs(made("bert_masked"), batch)) == {"input_ids", "token_type_ids"}
    assert set(model_inputs(made("gpt2"), {**batch, "cu_seq_lens_q": IDS})) == {
        "input_ids", "token_type_ids", "use_cache", "cu_seq_lens_q"
    }  # fmt: skip


def test_pictures_are_passed() -> None:
    batch = FAMILIES["llava"].batch(0)
    assert model_inputs(made("llava"), batch)["pixel_values"] is batch["pixel_values"]


@pytest.mark.parametrize(
    ("mask", "positions"),
    [
        ([1, 1, 1, 1], [0, 1, 2, 3]),
        ([1, 1, 0, 0], [0, 1, 2, 3]),  # as the model counts itself
        ([0, 0, 1, 1], [0, 0, 0, 1]),
        ([0, 1, 0, 1], [0, 0, 0, 1]),
        ([0, 1, 1, 0], [0, 0, 1, 2]),
        ([0, 0, 0, 0], [0, 1, 2, 3]),
    ],
    ids=["full", "right", "left", "hole", "both", "nothing"],
)
def test_positions_count_tokens(mask: list[int], positions: list[int]) -> None:
    for kind in (torch.long, torch.bool, torch.float32):
        batch = {"input_ids": IDS, "attention_mask": torch.tensor([mask], dtype=kind)}
        assert model_inputs(made("gpt2"), batch)["position_ids"].tolist() == [positions]
    own = torch.full_like(IDS, 2)
    assert model_inputs(made("gpt2"), {**batch, "position_ids": own})["position_ids"] is own


def test_positions_are_left_to_models_that_place_tokens_in_another_way() -> None:
    batch = {"input_ids": IDS, "attention_mask": torch.tensor([[0, 1, 1, 1]])}
    roberta = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**BERT))
    for model in (roberta, made("llava"), made("mamba")):
        assert "position_ids" not in model_inputs(model, batch)
    four = {**batch, "attention_mask": torch.ones(1, 1, 4, 4)}
    assert "position_ids" not in model_inputs(made("gpt2"), four)


@torch.no_grad()
def test_padding_on_the_right_changes_nothing_where_a_model_reads_it() -> None:
    """A convolution of ConvBERT covers tokens and the padding behind them."""
    make = maker(
        "ConvBertForTokenClassification", "ConvBertConfig", **BERT, num_labels=CLASSES,
        embedding_size=32, conv_kernel_size=3,
    )  # fmt: skip
    model: Any = make(0)
    batch = tagged_text(0)
    own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.equal(model(**model_inputs(model, batch)).logits, own)


@torch.no_grad()
def test_positions_begin_where_those_of_the_model_do() -> None:
    make = maker(
        "NystromformerForTokenClassification", "NystromformerConfig", **BERT, num_labels=CLASSES
    )
    model: Any = make(0)
    batch = tagged_text(0)
    own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.equal(model(**model_inputs(model, batch)).logits, own)
    left = model_inputs(model, padded_left(batch))["position_ids"]
    assert left[1].tolist() == [2, 2, 2, 2, 3, 4, 5, 6, 7, 8]


def test_labels_are_passed_only_where_a_decoder_reads_them() -> None:
    batch = FAMILIES["bart"].batch(0)
    assert model_inputs(made("bart"), batch)["labels"] is batch["labels"]
    given = {**batch, "decoder_input_ids": batch["labels"].clamp(min=0)}
    assert "labels" not in model_inputs(made("bart"), given)
    assert "labels" not in model_inputs(made("llama"), batch)
    del batch["labels"]
    with pytest.raises(ValueError, match=r"encoder-decoder: a batch needs 'decoder_input_ids'"):
        model_inputs(made("bart"), batch)


def test_a_classifier_of_sequences_needs_no_labels_whatever_its_decoder() -> None:
    config = transformers.BartConfig(**BART, num_labels=CLASSES)
    model = transformers.BartForSequenceClassification(config)
    inputs = model_inputs(model, {"input_ids": IDS, "labels": torch.tensor([1])})
    assert set(inputs) == {"input_ids", "use_cache"}


def test_a_batch_without_the_main_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reads 'pixel_values', but the batch has \['images'\]"):
        model_inputs(made("vit"), {"images": torch.zeros(1, 3, 16, 16)})
    embedded = {"inputs_embeds": torch.zeros(1, 4, 32)}
    assert set(model_inputs(made("llama"), embedded)) == {"inputs_embeds", "use_cache"}


def test_names_are_those_of_the_forward_of_a_class() -> None:
    names = input_names(transformers.BertForMaskedLM)
    assert {"input_ids", "attention_mask", "token_type_ids", "position_ids"} <= names
    assert not names & {"labels", "self", "return_dict", "kwargs"}


@torch.no_grad()
def test_a_sharded_model_has_the_positions_of_its_class() -> None:
    """FSDP2 derives a class of its own from that of a model, in a module of torch."""
    model: Any = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**BERT))
    plain = set(model_inputs(model, padded_left(tagged_text(0))))
    model.__class__ = type("FSDPRoberta", (type(model),), {"__module__": "torch.distributed.fsdp"})
    assert set(model_inputs(model, padded_left(tagged_text(0)))) == plain
