"""Write the model within a wrapper, so that transformers reads it without kdlight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.models.baking import bake_weights, has_parametrizations
from kdlight.models.pretrained import quiet_progress


def save_model(
    model: Any,
    folder: str | Path,
    *,
    tokenizer: Any = None,
    state_dict: Mapping[str, Tensor] | None = None,
    prefix: str = "model.",
) -> None:
    """Write a folder that ``from_pretrained`` reads.

    Parametrized weights, such as those of `kdlight.models.Quantized`, are written as plain ones,
    with the values that they have in evaluation mode.

    Args:
        model: a model of transformers.
        folder: the folder; it is created.
        tokenizer: a tokenizer to save in the same folder.
        state_dict: weights to save instead of the model's own, under the names that they have in
            its wrapper, such as the gathered weights of a sharded one.
        prefix: what the wrapper adds to the names of the model; empty without a wrapper.

    Raises:
        ValueError: If a parametrized weight is tied to another one.
    """
    weights = None
    if state_dict is not None:
        weights = remove_prefix(state_dict, prefix)
        first: dict[int, str] = {}  # tied weights are gathered once
        for name, parameter in model.named_parameters(remove_duplicate=False):
            weights[name] = weights[first.setdefault(id(parameter), name)]
    if has_parametrizations(model):
        weights = bake_weights(model, model.state_dict() if weights is None else weights)
    with quiet_progress():
        model.save_pretrained(folder, state_dict=weights)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def save_network(
    network: Any,
    folder: str | Path,
    *,
    tokenizer: Any = None,
    state_dict: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> None:
    """Write a network with a ``save_pretrained`` of its own, or a model of transformers.

    Args:
        network: such as a `kdlight.CausalLM`, or a model of transformers.
        folder: the folder; it is created.
        tokenizer: a tokenizer to save in the same folder.
        state_dict: weights to save instead of the network's own, under the names that they have in
            it.
        **options: further arguments of ``save_pretrained`` of the network, such as
            ``adapter_only``; those that are None or False are left out.
    """
    from transformers import PreTrainedModel

    if isinstance(network, PreTrainedModel):  # held without a kdlight.CausalLM
        save_model(network, folder, tokenizer=tokenizer, state_dict=state_dict, prefix="")
        return
    given: dict[str, Any] = {**options, "state_dict": state_dict}
    chosen = {
        name: value for name, value in given.items() if value is not None and value is not False
    }
    network.save_pretrained(folder, tokenizer=tokenizer, **chosen)


def remove_prefix(state_dict: Mapping[str, Tensor], prefix: str = "model.") -> dict[str, Tensor]:
    """Return the state dict of a wrapper with the names that its model uses.

    Example:
        >>> import torch
        >>> list(remove_prefix({"model.lm_head.weight": torch.zeros(2, 2)}))
        ['lm_head.weight']
    """
    return {name.removeprefix(prefix): value for name, value in state_dict.items()}
