"""A test run finds out how a model computes logits from its last hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models import (
    CausalLM,
)
from kdlight.models.output_head import OutputHead, probe_output_head
from kdlight.sources import Dense, Projected
from tests.models.tiny_models import CONFIGS, RESCALED, tiny, tokens


@pytest.mark.parametrize("name", RESCALED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_transform_after_the_head_is_included(name, dtype):
    model = tiny(name).to(dtype)
    batch = {"input_ids": tokens()}
    source = CausalLM.wrap(model).eval()(batch)
    assert isinstance(source, Projected)
    assert source.transform is not None
    far = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(source.logits(), model(**batch).logits, rtol=far, atol=far)
    assert not torch.allclose(source.head(source.hidden), model(**batch).logits)


@pytest.mark.parametrize("name", [*CONFIGS, *RESCALED])
def test_a_model_that_does_anything_else_gives_dense_logits(name):
    model = tiny(name)
    forward = model.forward

    def odd(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits + torch.linspace(0, 1, 31)
        return output

    model.forward = odd
    batch = {"input_ids": tokens()}
    source = CausalLM.wrap(model).eval()(batch)
    assert isinstance(source, Dense)
    assert torch.equal(source.logits(), model(**batch).logits)


def test_the_test_run_leaves_the_model_unchanged(llama):
    before = torch.get_rng_state()
    CausalLM.wrap(llama)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(module._forward_hooks for module in llama.modules())
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_the_transform_is_found_with_its_numbers() -> None:
    assert probe_output_head(tiny("llama")) == OutputHead(gives_logits=True)
    gemma, granite = (probe_output_head(tiny(name)).transform for name in ("gemma2", "granite"))
    assert gemma is not None
    assert (gemma.scale, gemma.cap) == (1.0, pytest.approx(30.0))
    assert granite is not None
    assert (granite.scale, granite.cap) == (pytest.approx(1 / 8), None)


def test_a_model_without_a_head_gives_no_logits_by_it() -> None:
    model = tiny("llama")
    model.get_output_embeddings = lambda: None
    assert probe_output_head(model) == OutputHead(gives_logits=False)


def test_a_model_that_does_not_run_on_tokens_alone_gives_no_logits_by_its_head() -> None:
    model = tiny("llama")

    def needs_a_picture(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("missing 1 required positional argument: 'pixel_values'")

    model.forward = needs_a_picture
    assert probe_output_head(model) == OutputHead(gives_logits=False)
    assert not any(module._forward_hooks for module in model.modules())
    assert not model.training
