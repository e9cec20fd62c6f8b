"""A new mixer is linear attention with the projections of the attention that it replaces."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu, softplus
from transformers import LlamaConfig, LlamaForCausalLM

from kdlight.models.conversion.hybrid_model import hybrid_model
from kdlight.models.conversion.mixer_start import RATES, STEPS

HEADS, SHARED, DIM, LENGTH = 4, 2, 4, 11


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=13,
        hidden_size=HEADS * DIM,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=SHARED,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config)


def by_hand(attention: Any, gate: Tensor, steps: Tensor, x: Tensor) -> Tensor:
    """Linear attention with decay, token by token and head by head, (T, D) -> (T, D)."""
    weights = dict(attention.named_parameters())
    outputs = torch.zeros(len(x), HEADS, DIM)
    rates = torch.linspace(*RATES, HEADS)
    for head in range(HEADS):
        shared = head // (HEADS // SHARED)
        rows, shared_rows = (slice(i * DIM, (i + 1) * DIM) for i in (head, shared))
        state = torch.zeros(DIM, DIM)
        for t, token in enumerate(x):
            query = silu(weights["q_proj.weight"][rows] @ token)
            key = silu(weights["k_proj.weight"][shared_rows] @ token)
            value = silu(weights["v_proj.weight"][shared_rows] @ token)
            step = steps[t, head]
            state = (-rates[head] * step).exp() * state + step * torch.outer(key, value)
            gated = (query @ state + value) * silu(gate[t, rows])
            outputs[t, head] = gated * torch.rsqrt(gated.square().mean() + 1e-6)
    return linear(outputs.flatten(1), weights["o_proj.weight"])


def test_it_is_linear_attention_with_these_projections() -> None:
    teacher = model()
    for chunk_size in (4, 16):
        mixer = hybrid_model(teacher, [0], chunk_size=chunk_size).model.layers[1].mamba
        x = torch.randn(1, LENGTH, HEADS * DIM)
        projected = linear(x[0], mixer.in_proj.weight)
        gate, steps = projected[:, : HEADS * DIM], softplus(projected[:, -HEADS:] + mixer.dt_bias)
        attention = teacher.model.layers[1].self_attn
        with torch.no_grad():
            expected = by_hand(attention, gate, steps, x[0])
            torch.testing.assert_close(mixer(x)[0], expected, rtol=1e-4, atol=1e-5)
        assert expected.abs().max() > 0.1


def test_heads_forget_at_the_published_speeds() -> None:
    mixer = hybrid_model(model(), [0]).model.layers[1].mamba
    steps, rates = softplus(mixer.dt_bias), mixer.A_log.exp()
    for found, bounds in ((steps, STEPS), (rates, RATES)):
        torch.testing.assert_close(found[[0, -1]], torch.tensor(bounds), rtol=1e-4, atol=0)
        assert (found.diff() > 0).all()


def test_gate_and_step_are_not_silent_and_depend_on_the_seed_alone() -> None:
    teacher = model()
    first, again, other = (
        hybrid_model(teacher, [0], seed=seed).model.layers[1].mamba.in_proj.weight
        for seed in (0, 0, 1)
    )
    own = torch.ones(len(first), dtype=torch.bool)
    own[HEADS * DIM : 4 * HEADS * DIM] = False
    assert torch.equal(first, again)
    assert torch.equal(first[~own], other[~own])
    assert (first[own] != other[own]).all()
    assert (first[own] != 0).all()
