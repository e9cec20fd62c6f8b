"""How much each layer of a model changes the hidden states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.models.pruning.layer_list import layer_list
from kdlight.models.pruning.token_means import token_means


def layer_importance(model: Any, batches: Iterable[Mapping[str, Any]]) -> Tensor:
    r"""Return the block influence of each layer, (L,) in float64.

    .. math:: 1 - E_t \frac{x_{i,t} \cdot x_{i+1,t}}{\|x_{i,t}\| \, \|x_{i+1,t}\|}

    where :math:`x_i` are the hidden states that layer i gets, and the mean is over all valid
    tokens. A layer that changes little has a small influence.

    Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
    2024, eq. (1). Choose it for the layers to keep, with `top_units` and `prune_layers`.

    Args:
        model: a Hugging Face causal language model whose layers are one `torch.nn.ModuleList`; it
            runs in evaluation mode and is not changed.
        batches: batches with the inputs of the model; padding does not count.

    Raises:
        ValueError: If the layers are not found, or there is no valid token.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=3, n_head=1))
        >>> layer_importance(model, [{"input_ids": torch.arange(6)[None]}]).shape
        torch.Size([3])
    """
    path = layer_list(model)
    paths = [f"{path}.{index}" for index in range(len(model.get_submodule(path)))]
    means = token_means(model, batches, dict.fromkeys(paths, _influence))
    return torch.cat([means[each].cpu() for each in paths])


def _influence(before: Tensor, after: Tensor) -> Tensor:
    return 1 - torch.cosine_similarity(before, after, dim=-1)[:, None]


def top_units(scores: Tensor, count: int) -> list[int]:
    """Return the indices of the ``count`` highest scores, in order; of equal ones the first.

    Args:
        scores: a score for each unit, (n,).
        count: number of units to keep, 1 to n.

    Raises:
        ValueError: If ``count`` is outside its range.

    Example:
        >>> top_units(torch.tensor([0.9, 0.1, 0.5, 0.5]), 2)
        [0, 2]
    """
    if not 1 <= count <= len(scores):
        raise ValueError(
            f"count must be 1 to {len(scores)} of the {len(scores)} units, got {count}"
        )
    return sorted(scores.argsort(descending=True, stable=True)[:count].tolist())
