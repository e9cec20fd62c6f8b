"""Wrappers are saved alike, also from weights that were gathered elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import CausalLM, TransformersModel
from kdlight.models.saving import remove_prefix, save_network
from tests.models.tiny_models import SIZES, tiny, transformers


def masked() -> Any:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
    config = transformers.BertConfig(**{name: SIZES[name] for name in names}, num_hidden_layers=1)
    return transformers.BertForMaskedLM(config)


@pytest.mark.parametrize(
    ("wrap", "make", "auto_class"),
    [
        (CausalLM.wrap, lambda: tiny("llama"), transformers.AutoModelForCausalLM),
        (TransformersModel.wrap, masked, transformers.AutoModelForMaskedLM),
    ],
    ids=["CausalLM", "TransformersModel"],
)
def test_tied_weights_that_were_gathered_once_are_saved(
    wrap: Any, make: Any, auto_class: Any, tmp_path: Path
) -> None:
    wrapped, other = wrap(make()), wrap(make())
    tied = {id(p): name for name, p in reversed(list(other.named_parameters()))}
    gathered = {name: p.detach() for name, p in other.named_parameters() if id(p) in tied}
    assert len(gathered) < len(list(other.named_parameters(remove_duplicate=False)))
    wrapped.save_pretrained(tmp_path, state_dict=gathered)
    saved = auto_class.from_pretrained(tmp_path)
    for (name, one), two in zip(other.model.named_parameters(), saved.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_only_the_prefix_of_the_wrapper_is_removed() -> None:
    weight = torch.zeros(2)
    assert list(remove_prefix({"model.model.norm": weight, "lm_head": weight})) == [
        "model.norm",
        "lm_head",
    ]


def test_options_that_are_not_set_are_not_given(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = []

    class Own:
        def save_pretrained(self, folder: Any, **options: Any) -> None:
            given.append(options)

    save_network(Own(), tmp_path, adapter_only=False, adapter_scale=None)
    save_network(Own(), tmp_path, adapter_only=True, adapter_scale=0.0, state_dict={})
    assert given == [
        {"tokenizer": None},
        {"tokenizer": None, "adapter_only": True, "adapter_scale": 0.0, "state_dict": {}},
    ]
