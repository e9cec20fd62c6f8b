"""The dtype of a teacher, which is its own, whatever the precision of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def parse_floating_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return a floating dtype by its name.

    Raises:
        ValueError: ``dtype`` names no floating dtype.

    Example:
        >>> parse_floating_dtype("bfloat16")
        torch.bfloat16
    """
    parsed = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(parsed, torch.dtype) or not parsed.is_floating_point:
        raise ValueError(
            f"dtype must name a floating torch dtype such as 'bfloat16', got {dtype!r}"
        )
    return parsed


def is_quantized(model: nn.Module) -> bool:
    """Return whether a library placed the weights itself and does not allow to move them.

    Example:
        >>> is_quantized(nn.Linear(2, 3))
        False
    """
    return any(getattr(each, "hf_quantizer", None) is not None for each in model.modules())


@contextmanager
def own_precision(model: Any, batch: Any) -> Iterator[Any]:
    """Yield ``batch`` in the dtype of ``model``, which new tensors have, too, within the context.

    The precisions ``bf16-true``, ``16-true`` and ``64-true`` of a Trainer convert the tensors of a
    batch and the default dtype to that of the student. Under autocast, and for a network that is
    quantized or has no weights, the batch is left as it is.

    Args:
        model: the network.
        batch: its floating tensors are converted where their dtype is another one.

    Example:
        >>> with own_precision(nn.Linear(2, 3), torch.zeros(1, 2).double()) as batch:
        ...     batch.dtype
        torch.float32
    """
    dtype = _own_dtype(model)
    if dtype is None:
        yield batch
        return
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield apply_to_collection(batch, Tensor, _cast, dtype) if _differs(batch, dtype) else batch
    finally:
        torch.set_default_dtype(default)


def _own_dtype(model: Any) -> torch.dtype | None:
    """Return the dtype of the first floating weight; None where casts are not ours to do."""
    if not isinstance(model, nn.Module):
        return None
    weight = next((each for each in model.parameters() if each.is_floating_point()), None)
    if weight is None or weight.dtype not in FLOATS or is_quantized(model):
        return None
    device = weight.device.type
    is_cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # autocast leaves float64 as it is
    return None if is_cast and weight.dtype != torch.float64 else weight.dtype


def _differs(batch: Any, dtype: torch.dtype) -> bool:
    found: list[bool] = []
    apply_to_collection(batch, Tensor, lambda each: found.append(_is_other(each, dtype)))
    return any(found)


def _is_other(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.dtype in FLOATS and tensor.dtype != dtype


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if _is_other(tensor, dtype) else tensor
