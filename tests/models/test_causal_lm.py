"""A causal language model returns the logits of the Hugging Face model in it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from kdlight.models import (
    CausalLM,
)
from kdlight.sources import Dense, Projected
from tests.families.families import FAMILIES
from tests.families.family import maker
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


def test_positions_are_made_from_the_mask(teacher):
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    ids = tokens()
    got = CausalLM.wrap(teacher).eval()({"input_ids": ids, "attention_mask": mask}).logits()
    for row, part in ((0, slice(2, 6)), (1, slice(0, 4))):
        alone = teacher(input_ids=ids[row : row + 1, part]).logits[0]
        torch.testing.assert_close(got[row, part], alone, rtol=1e-5, atol=1e-5)


def test_a_model_that_needs_a_picture_computes_its_logits_itself():
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
              "num_attention_heads": 4}  # fmt: skip
    text = {"model_type": "opt", "vocab_size": 61, "hidden_size": 32, "ffn_dim": 48,
            "word_embed_proj_dim": 32, "num_hidden_layers": 1,
            "num_attention_heads": 4}  # fmt: skip
    model: Any = maker(
        "Blip2ForConditionalGeneration", "Blip2Config",
        vision_config={**vision, "image_size": 16, "patch_size": 8},
        qformer_config={**vision, "encoder_hidden_size": 32, "vocab_size": 61},
        text_config=text, num_query_tokens=4, image_token_index=5,
    )(0)  # fmt: skip
    batch = FAMILIES["llava"].batch(0)
    source = CausalLM.wrap(model).eval()(batch)
    assert isinstance(source, Dense)
    assert torch.equal(source.logits(), model(**batch).logits)


def test_a_model_without_a_limit_has_no_context_length(llama):
    xlnet = maker("XLNetLMHeadModel", "XLNetConfig", vocab_size=31, d_model=32, n_layer=1,
                  n_head=4, d_inner=48)  # fmt: skip
    assert CausalLM.wrap(xlnet(0)).context_length is None
    with pytest.raises(ValueError, match="sequences of 65 tokens, but the context .* is 64"):
        CausalLM.wrap(llama)({"input_ids": tokens(1, 65)})


def test_a_model_that_differs_leaves_the_fast_path(llama):
    wrapped, batch = CausalLM.wrap(llama).eval(), {"input_ids": tokens()}
    assert wrapped.compare_with_model(batch) < 1e-5
    assert isinstance(wrapped(batch), Projected)

    def shift(model: Any, args: Any, output: Any) -> None:
        output.logits = output.logits + torch.arange(31)

    llama.register_forward_hook(shift)
    with pytest.warns(UserWarning, match="LlamaForCausalLM on its last hidden states differ"):
        assert wrapped.compare_with_model(batch) > 0.1
    assert torch.equal(wrapped(batch).logits(), llama(**batch).logits)
    assert wrapped.compare_with_model(batch) == 0  # nothing is left to compare
