"""Labels of a batch aligned with its logits. Labels are shifted here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from kdlight.checks import check_choice
from kdlight.losses.labels import IGNORE_INDEX

LabelRule = Literal["causal", "aligned", "none"]
"""Where the labels of a batch stand: at their own tokens, at the logits, or nowhere."""

LABEL_RULES = ("causal", "aligned", "none")


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
    aligned = labels.long().roll(-1, dims=-1)  # bytes have no -100
    aligned[..., -1] = IGNORE_INDEX
    return aligned


def batch_labels(
    batch: Any, rule: LabelRule | None = None, *, ignore_index: int = IGNORE_INDEX
) -> Tensor | None:
    """Return labels aligned with logits, -100 at invalid positions; None if there are none.

    The labels are the entry ``labels`` of a mapping, or y of a tuple or list ``(x, y)``.

    ============== ================================================================================
    ``"causal"``   they stand at their own tokens, as Hugging Face's causal language models take
                   them, and are shifted to the logits that predict them; without labels they are
                   ``input_ids``. Positions where ``attention_mask`` is 0 are ignored, as inputs and
                   as targets
    ``"aligned"``  they stand at the logits already: labels of masked language models, of
                   encoder-decoders, of tokens, sequences, images
    ``"none"``     the batch has no labels, whatever its entries are called
    ============== ================================================================================

    Args:
        batch: a mapping, a tuple or list, or a tensor, which has no labels.
        rule: where the labels stand; None to find it out by `find_label_rule`.
        ignore_index: labels of this value are ignored.

    Raises:
        ValueError: If ``rule`` is None and the batch does not tell.

    Example:
        >>> import torch
        >>> ids, mask = torch.tensor([[0, 5, 6]]), torch.tensor([[0, 1, 1]])
        >>> batch_labels({"input_ids": ids, "attention_mask": mask}, "causal")
        tensor([[-100,    6, -100]])
    """
    if rule is None:
        rule = find_label_rule(batch, ignore_index=ignore_index) or "causal"
    check_choice("rule", rule, LABEL_RULES)
    labels, inputs = _entries(batch)
    if rule == "none":
        return None
    if labels is None and rule == "causal" and isinstance(batch, Mapping):
        labels = batch.get("input_ids")
    if not isinstance(labels, Tensor):
        return None
    if ignore_index != IGNORE_INDEX and not labels.is_floating_point():
        # wider first: maps of bytes have no -100
        labels = labels.long().masked_fill(labels == ignore_index, IGNORE_INDEX)
    if ignore_index != IGNORE_INDEX and labels.is_floating_point():
        labels = labels.masked_fill(labels == ignore_index, float("nan"))
    if rule == "aligned" or (isinstance(inputs, Tensor) and labels.dim() < inputs.dim()):
        return labels
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if mask is None or mask.shape != labels.shape:  # a mask (B, 1, T, T) does not mark padding
        return next_token_labels(labels)
    padding = mask == 0
    aligned = next_token_labels(labels.long().masked_fill(padding, IGNORE_INDEX))
    return aligned.masked_fill(padding, IGNORE_INDEX)


def find_label_rule(batch: Any, *, ignore_index: int = IGNORE_INDEX) -> LabelRule | None:
    """Find out from the values of ``batch`` where its labels stand.

    ===================================================== =========================================
    a mapping with ``input_ids`` and no ``labels``        ``"causal"``
    labels that are equal to ``input_ids`` where they     ``"causal"``
    count
    labels of other shape or dtype than the inputs, or    ``"aligned"``
    no ``input_ids``
    none of the labels count                              None: any rule, but for other batches
    any other labels                                      an error that names the argument to give
    ===================================================== =========================================

    Raises:
        ValueError: If the labels of tokens are not those of the same batch.

    Example:
        >>> import torch
        >>> ids = torch.tensor([[4, 5, 6]])
        >>> find_label_rule({"input_ids": ids, "labels": ids})
        'causal'
        >>> find_label_rule({"pixel_values": torch.zeros(1, 3, 8, 8), "labels": torch.zeros(1)})
        'aligned'
    """
    labels, inputs = _entries(batch)
    if not isinstance(labels, Tensor):
        return "causal" if isinstance(inputs, Tensor) and isinstance(batch, Mapping) else "none"
    of_tokens = (
        isinstance(inputs, Tensor)
        and labels.shape == inputs.shape
        and labels.dim() > 1
        and not labels.is_floating_point()
        and not inputs.is_floating_point()
    )
    if not of_tokens:
        return "aligned"
    assert isinstance(inputs, Tensor)
    counts = (labels != ignore_index) & (labels != IGNORE_INDEX)
    if not counts.any():
        return None
    if bool((labels == inputs)[counts].all()):
        if isinstance(batch, Mapping):
            return "causal"
        raise _unclear("the labels y are equal to the inputs x of a pair (x, y)")
    if not isinstance(batch, Mapping):
        return "aligned"
    if are_shifted(labels, inputs, counts):
        raise _unclear("the labels are the tokens after those of 'input_ids', shifted already")
    raise _unclear("the labels are other tokens than 'input_ids'")


def are_shifted(labels: Tensor, inputs: Tensor, counts: Tensor) -> bool:
    """Return whether labels are the next tokens, as far as they count and are known.

    Example:
        >>> import torch
        >>> ids = torch.tensor([[4, 5, 6]])
        >>> are_shifted(torch.tensor([[5, 6, -100]]), ids, torch.tensor([[True, True, False]]))
        True
    """
    known = counts[..., :-1]
    return bool(known.any()) and bool((labels[..., :-1] == inputs[..., 1:])[known].all())


def _entries(batch: Any) -> tuple[Any, Any]:
    """Return the labels of a batch, and the tokens that they may belong to."""
    if isinstance(batch, Mapping):
        return batch.get("labels"), batch.get("input_ids")
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return batch[1], batch[0]
    return None, None


def _unclear(what: str) -> ValueError:
    return ValueError(
        f"it is not clear where the labels of a batch stand: {what}. Give labels='causal' if they"
        " stand at their own tokens and are to be shifted, as causal language models take them, or"
        " labels='aligned' if they stand at the logits that predict them; or define the method"
        " that returns aligned labels"
    )
