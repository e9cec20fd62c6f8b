"""Compare the logits of a wrapper's fast path with those of the model that it wraps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.features import not_captured
from kdlight.models.evaluating import evaluating
from kdlight.models.model_inputs import model_inputs
from kdlight.sources import LogitsSource

POSITIONS = 16
"""Positions of a row that are compared, which bounds the memory of their logits."""

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Differences that rounding explains, relative to the size of logits, by the dtype of a model."""

HALF_TOLERANCE = 5e-2


@torch.no_grad()
def fast_path_difference(
    model: Any, fast_path: Callable[[Mapping[str, Any]], LogitsSource], batch: Mapping[str, Any]
) -> float:
    """Return the largest difference of logits, relative to the size of the model's own.

    The first row of the batch is compared, or the whole batch where rows cannot be told apart, in
    evaluation mode.

    Args:
        model: a model of transformers with an output head.
        fast_path: computes the logits of a batch in another way.
        batch: inputs of the model.
    """
    row = _first_row(batch)
    index: list[Tensor] = []

    def keep_some_positions(head: nn.Module, args: tuple[Tensor, ...]) -> Any:
        hidden = args[0]
        if hidden.dim() != 3:
            return None
        count = hidden.shape[1]
        step = max(count // POSITIONS, 1)
        index.append(torch.arange(0, count, step, device=hidden.device))
        return (hidden[:, index[0]], *args[1:])

    with evaluating(model), not_captured():
        hook = model.get_output_embeddings().register_forward_pre_hook(keep_some_positions)
        try:
            expected = model(**model_inputs(model, row)).logits
        finally:
            hook.remove()
        source = fast_path(row)
    if index and int(index[0][-1]) >= source.shape[1]:  # the model adds positions
        return torch.inf
    rows = source.shape[0] * source.shape[1]
    positions = torch.arange(rows, device=expected.device).reshape(source.shape[:2])
    if index:
        positions = positions[:, index[0]]
    got = source.select(positions.flatten()).logits().float()
    expected = expected.flatten(0, 1).float()
    if got.shape != expected.shape:
        return torch.inf
    valid = _valid(row, positions)
    size = expected[valid].abs().max() if valid.any() else torch.ones(())
    return (
        ((got - expected)[valid].abs().max() / size.clamp(min=1e-6)).item() if valid.any() else 0.0
    )


def tolerance(model: nn.Module) -> float:
    """Return the largest difference of a model's logits that rounding explains."""
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return HALF_TOLERANCE
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return TOLERANCE.get(dtypes[0], HALF_TOLERANCE) if dtypes else HALF_TOLERANCE


def _first_row(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch of the first row; the batch itself if not all of its tensors have rows."""
    tensors = [value for value in batch.values() if isinstance(value, Tensor)]
    if len({len(value) if value.dim() else None for value in tensors}) != 1:
        return dict(batch)
    return {n: value[:1] if isinstance(value, Tensor) else value for n, value in batch.items()}


def _valid(batch: Mapping[str, Any], positions: Tensor) -> Tensor:
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return torch.ones_like(positions.flatten(), dtype=torch.bool)
    return mask.flatten().to(positions.device)[positions.flatten()].bool()
