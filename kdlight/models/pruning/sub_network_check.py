"""A sub-network is refused where pruning is, without a copy of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from kdlight.models.pruning.kept_layers import prune_config, prune_names
from kdlight.models.pruning.layer_pruning import choose_layers, prune_layers
from kdlight.models.pruning.pruning_check import check_pruned, logits_difference
from kdlight.models.pruning.sub_network import SubNetworks
from kdlight.models.training_weights import run_on_tokens, training_weights


def check_sub_network(model: Any, layers: int | Sequence[int]) -> None:
    """Raise a ValueError for layers that a model cannot run alone as its pruned copy would.

    These are the layers that `prune_layers` refuses. The copy that it is compared with shares the
    weights of ``model``, so that the check costs a few tokens' time and no memory.

    Args:
        model: a Hugging Face causal language model.
        layers: indices of the layers, or their number, see `choose_layers`.

    Raises:
        TypeError: If ``layers`` are no integers.
        ValueError: If there are no such layers, or they would compute something else.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=1))
        >>> check_sub_network(model, [0, 2])
        Traceback (most recent call last):
        ValueError: layers must be indices from 0 to 1, got [0, 2]: [2] are outside the model
    """
    networks = SubNetworks(model)
    kept = choose_layers(layers, depth=networks.depth)
    with training_weights(model):
        copy = _copy_on_the_same_weights(model, networks.path, kept)
        if copy is None:
            copy = prune_layers(model, kept)  # which says what is wrong, if anything is
        else:
            check_pruned(model, copy, networks.path, kept)
        difference = logits_difference(model, copy, networks.only(kept))
    if difference:
        raise ValueError(
            f"{type(model).__name__} does not run its layers {kept} alone as its pruned copy does:"
            " it finds its layers in another place than its list of layers or its config; train"
            " pruned students one by one (kdlight.PrunedCausalLM)"
        )


def _copy_on_the_same_weights(model: Any, path: str, kept: list[int]) -> nn.Module | None:
    """Return the pruned model with the weights of ``model`` itself; None where that is not enough.

    A model may hold tensors that are neither weights nor buffers, and then has to be built anew.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            copy = type(model)(prune_config(model.config, kept))
        copy.load_state_dict(prune_names(model.state_dict(), path, kept), assign=True)
        buffers = prune_names(dict(model.named_buffers()), path, kept)
        for name, buffer in list(copy.named_buffers()):
            if buffer.is_meta:  # no state dict has it
                owner, _, leaf = name.rpartition(".")
                setattr(copy.get_submodule(owner), leaf, buffers[name])
        run_on_tokens(copy.eval(), 1)
    # what torch raises for weights that do not fit, for an operation without a value on the meta
    # device, and for a buffer that the model does not have; `prune_layers` then says what is wrong
    except (RuntimeError, KeyError, TypeError):
        return None
    return copy
