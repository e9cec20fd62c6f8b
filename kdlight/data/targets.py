"""Labels of a batch aligned with its logits. Labels are shifted here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kdlight.losses.labels import IGNORE_INDEX


def next_token_labels(labels: Tensor) -> Tensor:
    """Shift labels to the logits that predict them, (B, T) -> (B, T).

    The last position predicts nothing and is ignored.

    Args:
        labels: labels in the convention of Hugging Face (not shifted: equal to ``input_ids`` where
            they count, -100 elsewhere), or ``input_ids`` themselves.

    Example:
        >>> import torch
        >>> next_token_labels(torch.tensor([[5, 6, -100, 8]]))
        tensor([[   6, -100,    8, -100]])
    """
    aligned = labels.roll(-1, dims=-1)
    aligned[..., -1] = IGNORE_INDEX
    return aligned


def batch_labels(batch: Any) -> Tensor:
    """Return labels aligned with logits: (B, T) for language models, (B,) for classifiers.

    ======================================== =================================================
    a mapping with ``input_ids``             next-token labels of ``labels`` if present, else
                                             of ``input_ids``; positions where
                                             ``attention_mask`` is 0 are ignored, as inputs
                                             and as targets
    a mapping with ``labels`` only           the labels
    a tuple or list ``(x, y)``               ``y``
    ======================================== =================================================

    Labels with fewer dimensions than ``input_ids`` are labels of a sequence classifier. They are
    returned unchanged.

    Raises:
        TypeError: If the batch is none of these.

    Example:
        >>> import torch
        >>> ids, mask = torch.tensor([[0, 5, 6]]), torch.tensor([[0, 1, 1]])
        >>> batch_labels({"input_ids": ids, "attention_mask": mask})
        tensor([[-100,    6, -100]])
    """
    labels = _raw_labels(batch)
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"no labels in a batch of type {_describe(batch)}: expected tensors in a mapping with"
            " 'input_ids' or 'labels', or in a pair (x, y); for other batches override"
            " `labels(batch)` of DistillationModule"
        )
    if not isinstance(batch, Mapping) or "input_ids" not in batch:
        return labels
    if labels.dim() < batch["input_ids"].dim():
        return labels
    mask = batch.get("attention_mask")
    if mask is None or mask.shape != labels.shape:  # a mask (B, 1, T, T) does not mark padding
        return next_token_labels(labels)
    padding = mask == 0
    aligned = next_token_labels(labels.masked_fill(padding, IGNORE_INDEX))
    return aligned.masked_fill(padding, IGNORE_INDEX)


def _raw_labels(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return batch["labels"] if batch.get("labels") is not None else batch.get("input_ids")
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return batch[1]
    return None


def _describe(batch: Any) -> str:
    name = type(batch).__name__
    return f"{name} with keys {list(batch)}" if isinstance(batch, Mapping) else name
