"""The arguments of a teacher's module, as a recurrent module of a student takes them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdlight.models.packed_rows import check_state

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def layer_arguments(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], batch: Any
) -> Arguments:
    """Return the arguments to call a module of a student with.

    They are those of the teacher's module, except for a recurrent mixer of transformers (Mamba,
    Bamba) and for a layer that has one. Attention gets a mask ``(B, 1, T, T)`` of who sees whom,
    which such a module would multiply its hidden states with. It gets the ``attention_mask`` of
    the batch instead, ``(B, T)``. A mixer gets nothing else: rotary embeddings mean nothing to it.

    Args:
        module: the student's module.
        args: positional arguments of the teacher's module.
        kwargs: its keyword arguments.
        batch: the batch.

    Raises:
        ValueError: The batch packs documents, which a recurrent state cannot keep apart.

    Example:
        >>> layer_arguments(nn.Linear(2, 3), (1,), {"scale": 2.0}, {})
        ((1,), {'scale': 2.0})
    """
    if not any(map(_is_mixer, module.modules())):
        return args, kwargs
    check_state(type(module).__name__, batch)
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
    if not _is_mixer(module):
        return args, {**kwargs, "attention_mask": mask}
    hidden = args[0] if args else kwargs["hidden_states"]
    return (hidden,), {"attention_mask": mask}


def _is_mixer(module: nn.Module) -> bool:
    # the name that all recurrent mixers of transformers have for their state in generation
    return "cache_params" in inspect.signature(module.forward).parameters
