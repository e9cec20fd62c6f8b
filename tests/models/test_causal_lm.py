"""A causal language model returns the logits of the Hugging Face model in it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from kdlight.models import (
    CausalLM,
)
from kdlight.sources import Projected
from tests.models.tiny_models import SIZES, tokens

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


def test_its_logits_are_those_of_the_model(teacher):
    batch = {"input_ids": tokens()}
    source = CausalLM.wrap(teacher).eval()(batch)
    assert isinstance(source, Projected)
    assert source.shape == (2, 6, 31)
    assert torch.equal(source.logits(), teacher(**batch).logits)


def test_padding_and_positions_reach_the_model(teacher):
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    batch = {
        "input_ids": tokens(),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }
    model = CausalLM.wrap(teacher).eval()
    expected = teacher(**batch).logits
    assert torch.equal(model({**batch, "labels": batch["input_ids"]}).logits(), expected)
    assert not torch.equal(model({"input_ids": batch["input_ids"]}).logits(), expected)


def test_it_trains_and_generates_in_the_right_modes():
    config = transformers.LlamaConfig(**SIZES, attention_dropout=0.9)
    hf_model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model = CausalLM.wrap(hf_model)
    assert model.training
    assert hf_model.training
    prompt = tokens(1, 3)
    arguments = {"max_new_tokens": 4, "do_sample": False}
    first = model.generate(prompt, **arguments)
    assert torch.equal(first[:, :3], prompt)
    assert torch.equal(first, model.generate(prompt, **arguments))  # no dropout
    assert model.training
    assert hf_model.training


def test_gradients_reach_every_parameter(teacher):
    model = CausalLM.wrap(teacher)
    model({"input_ids": torch.arange(31)[None]}).logits().logsumexp(-1).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == set()


def test_vocab_size_and_context_length(teacher):
    model = CausalLM.wrap(teacher)
    assert (model.vocab_size, model.context_length) == (31, 64)


def test_a_batch_without_tokens_is_refused(llama):
    with pytest.raises(TypeError, match="input_ids"):
        CausalLM.wrap(llama)((tokens(), tokens()))


def test_save_and_load(teacher, tmp_path):
    CausalLM.wrap(teacher).save_pretrained(tmp_path / "model")
    loaded = CausalLM(str(tmp_path / "model"))
    assert loaded.training
    batch = {"input_ids": tokens()}
    assert torch.equal(loaded.eval()(batch).logits(), teacher.eval()(**batch).logits)
    assert CausalLM(str(tmp_path / "model"), dtype="bfloat16").model.dtype == torch.bfloat16
