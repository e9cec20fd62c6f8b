"""How much the heads, neurons and hidden channels of a model are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.models.pruning.decoder_parts import decoder_parts
from kdlight.models.pruning.token_means import Statistic, token_means


class WidthImportance(NamedTuple):
    """The importance of what `prune_width` may remove, in float64.

    Attributes:
        heads: of the groups of heads of each layer, ``(L, G)``. A group is a key/value head with
            the query heads that share it; without grouped-query attention it is one head.
        feed_forward: of the neurons of the feed-forward network of each layer, ``(L, N)``.
        hidden: of the hidden channels, ``(D,)``.

    Example:
        >>> scores = WidthImportance(torch.rand(3, 2), torch.rand(3, 6), torch.rand(4))
        >>> scores.of_layers([0, 2]).heads.shape
        torch.Size([2, 2])
    """

    heads: Tensor
    feed_forward: Tensor
    hidden: Tensor

    def of_layers(self, layers: Sequence[int]) -> WidthImportance:
        """Return the importance for a model that keeps these layers, see `prune_layers`."""
        kept = list(layers)
        return WidthImportance(self.heads[kept], self.feed_forward[kept], self.hidden)


def width_importance(model: Any, batches: Iterable[Mapping[str, Any]]) -> WidthImportance:
    r"""Measure the activations of heads, neurons and hidden channels, averaged over valid tokens.

    .. math::
        F_{head} = \sqrt{E_t \|a_t\|^2}, \qquad
        F_{neuron} = \sqrt{E_t\, h_t^2}, \qquad
        F_{hidden} = \frac1M \sum_{m=1}^M \sqrt{E_t\, n_{m,t}^2}

    where a are the outputs of the heads of a group, before ``o_proj``; h are the inputs of
    ``down_proj``; and n are the outputs of the M norms of hidden states.

    Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024,
    section 2.2. Ours are the root mean square over all valid tokens, which does not depend on how
    tokens are batched (the paper takes an L2 norm over the samples of a batch, and a mean over the
    positions of a sequence), whole groups of heads, and neurons after the gate.

    Args:
        model: a Hugging Face causal language model whose layers are like those of Llama; it runs in
            evaluation mode and is not changed.
        batches: batches with the inputs of the model; padding does not count.

    Raises:
        ValueError: If the model is built in another way, or there is no valid token.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
        >>> heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        >>> model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, vocab_size=9))
        >>> scores = width_importance(model, [{"input_ids": torch.arange(6)[None]}])
        >>> [tuple(each.shape) for each in scores]
        [(2, 2), (2, 12), (8,)]
    """
    parts = decoder_parts(model)
    outputs = [f"{path}.o_proj" for path in parts.attention]
    downs = [f"{path}.down_proj" for path in parts.feed_forward]

    def squared_norms_of_groups(given: Tensor, made: Tensor) -> Tensor:
        return given.unflatten(-1, (parts.key_value_heads, -1)).square().sum(-1)

    statistics: dict[str, Statistic] = {
        **dict.fromkeys(outputs, squared_norms_of_groups),
        **dict.fromkeys(downs, lambda given, made: given.square()),
        **dict.fromkeys(parts.norms, lambda given, made: made.square()),
    }
    means = token_means(model, batches, statistics)
    heads, neurons, hidden = (
        torch.stack([means[path].sqrt().cpu() for path in paths])
        for paths in (outputs, downs, parts.norms)
    )
    return WidthImportance(heads, neurons, hidden.mean(0))
