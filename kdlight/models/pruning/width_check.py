"""A model pruned in width, compared with the model that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.models.pruning.decoder_parts import DecoderParts
from kdlight.models.pruning.pruning_check import NO_SETTINGS, logits_difference, tolerance

Kept = Mapping[str, Tensor]
"""The indices that are kept along each kind of axis, see `DecoderParts.axes`."""


def check_width_pruned(model: Any, student: Any, parts: DecoderParts, kept: Kept) -> None:
    """Raise a ValueError where kept units compute something else than in the model they are from.

    Logits are compared with those of ``model`` in which all other units are set to zero; the norms
    then average over the kept channels only. The settings of all modules and their buffers, such as
    the frequencies of rotary embeddings, must be equal, except for the sizes.

    Args:
        model: the model.
        student: the pruned copy, in the dtype of the model.
        parts: the parts of the model.
        kept: the indices that are kept.

    Raises:
        ValueError: If they differ.
    """
    name = type(model).__name__
    if different := _different_setting(model, student, parts, kept):
        rest = "; prune heads and feed_forward only" if "hidden" in kept else ""
        raise ValueError(
            f"{name} cannot be pruned to hidden={student.config.get_text_config().hidden_size}:"
            f" {different}, so that it would compute something else{rest}"
        )
    difference = logits_difference(model, student, _zeroed(model, parts, kept))
    if not difference <= tolerance(model):
        raise ValueError(
            f"{name} cannot be pruned in width: the logits differ by {difference:.2g} of their size"
            " from those of the model with the other heads, neurons and channels set to zero, so"
            " something else depends on them; prune it yourself and wrap it with CausalLM.wrap"
        )


@contextmanager
def _zeroed(model: Any, parts: DecoderParts, kept: Kept) -> Iterator[None]:
    """Set all units that are not kept to zero wherever they are computed."""
    masks = _masks(model, parts, kept)
    hidden = masks.get("hidden")
    handles = []
    for index, paths in enumerate(zip(parts.attention, parts.feed_forward, strict=True)):
        for path, last, axis in zip(
            paths, ("o_proj", "down_proj"), (f"queries {index}", f"neurons {index}"), strict=True
        ):
            module = model.get_submodule(f"{path}.{last}")
            if axis in masks:
                handles.append(module.register_forward_pre_hook(_times_input(masks[axis])))
            if hidden is not None:
                handles.append(module.register_forward_hook(_times_output(hidden)))
    if hidden is not None:
        # a norm divides by the root of the mean over all channels; with zeros among them, it takes
        # a factor to be the mean over the kept ones, as in the copy
        factor = (len(hidden) / hidden.sum()).sqrt()
        handles.append(model.get_input_embeddings().register_forward_hook(_times_output(hidden)))
        for norm in map(model.get_submodule, parts.norms):
            handles.append(norm.register_forward_pre_hook(_times_input(factor)))
            handles.append(norm.register_forward_hook(_times_output(hidden / factor)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _masks(model: Any, parts: DecoderParts, kept: Kept) -> dict[str, Tensor]:
    sizes = {"hidden": parts.hidden}
    for index in range(len(parts.attention)):
        sizes[f"queries {index}"] = parts.heads * parts.head_dim
        sizes[f"neurons {index}"] = parts.intermediate
    return {
        axis: torch.zeros(size, device=model.device).index_fill_(0, kept[axis].to(model.device), 1)
        for axis, size in sizes.items()
        if axis in kept
    }


def _times_input(factor: Tensor) -> Any:
    return lambda module, args: (args[0] * factor.to(args[0]), *args[1:])


def _times_output(factor: Tensor) -> Any:
    return lambda module, args, output: output * factor.to(output)


def _different_setting(
    model: nn.Module, student: nn.Module, parts: DecoderParts, kept: Kept
) -> str | None:
    """Describe the first number, text, flag or buffer of two models that differs beside sizes."""
    heads = len(kept.get("queries 0", ())) // parts.head_dim or parts.heads
    group = parts.heads // parts.key_value_heads
    sizes = {
        (parts.hidden, len(kept.get("hidden", ())) or parts.hidden),
        (parts.intermediate, len(kept.get("neurons 0", ())) or parts.intermediate),
        (parts.heads, heads),
        (parts.key_value_heads, heads // group),
        (parts.heads * parts.head_dim, heads * parts.head_dim),
        (parts.key_value_heads * parts.head_dim, heads // group * parts.head_dim),
    }
    for (path, first), second in zip(model.named_modules(), student.modules(), strict=True):
        # what is in one only is no setting of its class: loading leaves notes in a model
        for name in sorted((vars(first).keys() & vars(second).keys()) - set(NO_SETTINGS)):
            value, copied = vars(first)[name], vars(second)[name]
            is_plain = isinstance(value, (bool, int, float, str, type(None)))
            if is_plain and value != copied and (value, copied) not in sizes:
                return f"{path}.{name}={value!r}, but in the copy {copied!r}"
        for name, buffer in first.named_buffers(recurse=False):
            # those of a model that was cast to half precision are rounded
            copied = second.get_buffer(name).to(buffer)
            if buffer.shape != copied.shape or not torch.allclose(buffer, copied, rtol=1e-2):
                return f"{path}.{name} differs"
    return None
