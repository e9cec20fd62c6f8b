"""The weights that a Mamba-2 mixer starts from, made of those of attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

STEPS = (1e-3, 1e-1)
"""Smallest and largest time step at the start, as published for Mamba-2."""

RATES = (1.0, 16.0)
"""Smallest and largest rate of decay at the start, as published for Mamba-2."""


@torch.no_grad()
def start_mixer(mixer: Any, attention: Any) -> None:
    r"""Give a new mixer the projections of attention.

    Linear attention without a softmax is a state space layer whose state is a sum of products of
    keys and values. So values become its inputs, keys its input matrices B, and queries its output
    matrices C:

    .. math:: h_t = e^{-a \Delta_t} h_{t-1} + \Delta_t \, k_t v_t^\top, \qquad
              y_t = h_t^\top q_t + d \, v_t

    for each head, with the output projection of attention after it. Keys and values that several
    heads share are repeated. The convolution starts as the identity. Gate and time step have no
    counterpart and keep the weights that they have, as a gate of 0 would silence the mixer. Rates a
    and biases of the time step are spaced evenly over the published ranges, for heads that
    forget at different speeds.

    Wang, Paliotta, May, Rush, Dao, "The Mamba in the Llama: Distilling and Accelerating Hybrid
    Models", 2024, section 3 (the projections). Dao, Gu, "Transformers are SSMs: Generalized Models
    and Efficient Algorithms Through Structured State Space Duality", 2024 (the ranges).

    Args:
        mixer: a mixer of Bamba, with as many heads and groups as attention has heads.
        attention: attention of Llama.
    """
    inner, heads = mixer.intermediate_size, mixer.num_heads
    repeats = heads // (attention.k_proj.weight.shape[0] // attention.head_dim)
    parts = [_repeated(attention.v_proj, attention.head_dim, repeats)]
    parts += [_repeated(attention.k_proj, attention.head_dim, repeats), attention.q_proj.weight]
    mixer.in_proj.weight[inner : 4 * inner].copy_(torch.cat(parts))
    mixer.out_proj.weight.copy_(attention.o_proj.weight)
    mixer.conv1d.weight.zero_()[..., -1] = 1.0
    mixer.conv1d.bias.zero_()
    steps = torch.linspace(math.log(STEPS[0]), math.log(STEPS[1]), heads).exp()
    mixer.dt_bias.copy_(steps + (-(-steps).expm1()).log())  # softplus of it is the step
    mixer.A_log.copy_(torch.linspace(*RATES, heads).log())


def _repeated(projection: nn.Linear, head_dim: int, repeats: int) -> Tensor:
    """Return the rows of each head ``repeats`` times, (heads * head_dim, D)."""
    heads = projection.weight.unflatten(0, (-1, head_dim))
    return heads.repeat_interleave(repeats, 0).flatten(0, 1)
