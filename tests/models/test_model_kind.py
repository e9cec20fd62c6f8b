"""The class of a model tells where its labels stand: where its own loss expects them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import CausalLM, SingleInput, TransformersModel
from kdlight.models.model_kind import (
    ModelKind,
    base_model,
    is_transformers_model,
    kind_of_model,
    model_kind,
    outermost_models,
    wrapped_model,
)
from tests.families.families import FAMILIES
from tests.families.family import CLASSES, maker
from tests.families.of_text import BART, BERT, SIZES, T5

CAUSAL, ALIGNED = ModelKind("causal"), ModelKind("aligned")
DECODER = ModelKind("aligned", is_encoder_decoder=True)
KINDS = {
    "llama": CAUSAL,
    "gpt2": CAUSAL,
    "mamba": CAUSAL,
    "llava": CAUSAL,
    "t5": DECODER,
    "marian": DECODER,
    "whisper": DECODER,
    "bert_masked": ALIGNED,
    "bert_tokens": ALIGNED,
    "llama_sequences": ALIGNED,
    "vit": ALIGNED,
    "segformer": ModelKind("aligned", class_dim=1),
    "clip": ModelKind(),
    "cnn": ModelKind(),
}
XLNET: Any = {"vocab_size": 31, "d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 48}
DECODER_ONLY = {**BART, "is_decoder": True, "is_encoder_decoder": False}
OTHERS = [
    ("XLNetLMHeadModel", "XLNetConfig", XLNET, ALIGNED),
    ("T5ForTokenClassification", "T5Config", {**T5, "num_labels": CLASSES}, ALIGNED),
    ("BartForSequenceClassification", "BartConfig", BART, ALIGNED),
    ("BartForCausalLM", "BartConfig", DECODER_ONLY, ModelKind()),
    ("TrOCRForCausalLM", "TrOCRConfig", DECODER_ONLY, ModelKind()),
    ("BertForPreTraining", "BertConfig", BERT, ModelKind()),
    ("BertModel", "BertConfig", BERT, ModelKind()),
    ("BertLMHeadModel", "BertConfig", {**BERT, "is_decoder": True}, CAUSAL),
    ("Gemma3ForCausalLM", "Gemma3TextConfig", SIZES, CAUSAL),
    (
        "BertForSequenceClassification",
        "BertConfig",
        {**BERT, "problem_type": "multi_label_classification"},
        ModelKind("aligned", is_multi_label=True),
    ),
]


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_a_family(name: str) -> None:
    family = FAMILIES[name]
    for wrap in family.ways.values():
        assert model_kind(wrap(family.make(0))) == KINDS[name]


@pytest.mark.parametrize(("model", "config", "sizes", "kind"), OTHERS, ids=[o[0] for o in OTHERS])
def test_the_kind_of_other_classes(model: str, config: str, sizes: Any, kind: ModelKind) -> None:
    assert kind_of_model(maker(model, config, **sizes)(0)) == kind


@torch.no_grad()
def test_labels_of_xlnet_stand_at_its_logits() -> None:
    model: Any = maker("XLNetLMHeadModel", "XLNetConfig", **XLNET)(0)
    ids = torch.randint(3, 31, (2, 6))
    output = model(input_ids=ids, labels=ids)
    aligned = nn.functional.cross_entropy(output.logits.flatten(0, 1), ids.flatten())
    torch.testing.assert_close(output.loss, aligned)


def test_a_network_is_of_the_kind_of_the_one_model_that_it_wraps() -> None:
    llama = FAMILIES["llama"].make(0)
    for network in (CausalLM.wrap(llama), nn.Sequential(llama), SingleInput(llama)):
        assert wrapped_model(network) is llama
        assert not is_transformers_model(network)
    assert is_transformers_model(llama)
    two = nn.ModuleList([llama, FAMILIES["gpt2"].make(0)])
    assert len(list(outermost_models(two))) == 2
    for network in (two, nn.Sequential(llama, nn.Linear(61, 61)), nn.Linear(2, 3), str.upper, None):
        assert wrapped_model(network) is None
        assert model_kind(network) == ModelKind()


def test_adapters_do_not_change_the_kind() -> None:
    peft = pytest.importorskip("peft")
    model = FAMILIES["bert_sequences"].make(0)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"]))
    assert is_transformers_model(adapted)
    assert base_model(adapted) is model
    assert model_kind(adapted) == ALIGNED
    assert model_kind(TransformersModel.wrap(adapted)) == ALIGNED


def test_a_sharded_model_is_of_the_kind_of_its_class() -> None:
    model = FAMILIES["bert_masked"].make(0)
    model.__class__ = type("FSDPModule", (type(model),), {"__module__": "torch.distributed.fsdp"})
    assert kind_of_model(model) == ALIGNED
