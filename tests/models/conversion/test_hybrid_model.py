"""What is kept of a model computes what it computed."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.models.conversion.hybrid_model import hybrid_model
from tests.models.tiny_models import DEPTH, SIZES, tiny, tokens

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "theta": {"rope_theta": 500.0},
    "linear": {"rope_type": "linear", "factor": 2.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
    return model.eval()(input_ids=ids, **inputs).logits


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_with_all_layers_kept_the_logits_are_equal_to_the_bit(rope: str, attention: str) -> None:
    parameters = {"rope_type": "default", "rope_theta": 1e4, **ROPES[rope]}
    config = transformers.LlamaConfig(
        **SIZES, rope_parameters=parameters, attn_implementation=attention
    )
    torch.manual_seed(0)
    teacher = transformers.LlamaForCausalLM(config)
    student = hybrid_model(teacher, list(range(DEPTH)))
    ids = tokens(2, 60)
    mask = torch.ones_like(ids)
    mask[0, 50:], mask[1, :7] = 0, 0
    for inputs in ({}, {"attention_mask": mask}):
        assert torch.equal(logits(student, ids, **inputs), logits(teacher, ids, **inputs))


@pytest.mark.parametrize("tied", [True, False])
def test_nothing_is_shared_and_tied_weights_stay_tied(tied: bool) -> None:
    teacher = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, tie_word_embeddings=tied)
    )
    before = copy.deepcopy(teacher.state_dict())
    student = hybrid_model(teacher, [1])
    assert isinstance(student, transformers.BambaForCausalLM)
    assert (student.lm_head.weight is student.model.embed_tokens.weight) is tied
    ours = {p.untyped_storage().data_ptr() for p in student.parameters()}
    assert ours.isdisjoint(p.untyped_storage().data_ptr() for p in teacher.parameters())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher.training  # as it was


def test_only_attention_of_the_other_layers_is_replaced() -> None:
    teacher = tiny("llama")
    student = hybrid_model(teacher, [1, 3])
    kinds = [hasattr(layer, "self_attn") for layer in student.model.layers]
    assert kinds == [False, True, False, True]
    for ours, theirs in zip(student.model.layers, teacher.model.layers, strict=True):
        assert torch.equal(ours.feed_forward.up_proj.weight, theirs.mlp.up_proj.weight)
        assert torch.equal(ours.pre_ff_layernorm.weight, theirs.post_attention_layernorm.weight)
    assert student.generation_config.eos_token_id == teacher.generation_config.eos_token_id


def test_the_random_state_of_the_program_is_kept() -> None:
    teacher, before = tiny("llama"), torch.get_rng_state()
    hybrid_model(teacher, [1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [None, "auto", "float32", "float16"])
def test_half_precision_does_not_round_rotary_embeddings(dtype: str | None, tmp_path: Path) -> None:
    """As transformers computes them, so that the student is the one that is loaded later."""
    teacher = tiny("llama").bfloat16()
    rounded = teacher.model.rotary_emb.inv_freq
    student = hybrid_model(teacher, [0], dtype=dtype)
    wanted = torch.bfloat16 if dtype in (None, "auto") else getattr(torch, dtype)
    assert {p.dtype for p in student.parameters()} == {wanted}
    expected = tiny("llama").model.rotary_emb.inv_freq
    assert torch.equal(student.model.rotary_emb.inv_freq, expected)
    assert not torch.equal(rounded.float(), expected)
    ids, mixed = tokens(), student.model.layers[1].mamba
    assert torch.equal(
        mixed.out_proj.weight, teacher.model.layers[1].self_attn.o_proj.weight.to(wanted)
    )
    student.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again, ids), logits(student, ids))
