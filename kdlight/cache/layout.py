"""Where a teacher's logits stand in a batch, so that rows are found again in any other one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from kdlight.data.targets import LabelRule, batch_labels
from kdlight.data.teacher_tokens import PREFIX
from kdlight.losses.labels import IGNORE_INDEX

Place = Literal["tokens", "decoder", "teacher_tokens", "row"]
PLACES = ("tokens", "decoder", "teacher_tokens", "row")


class Layout(NamedTuple):
    """Where logits and labels stand in the rows of a batch.

    Attributes:
        labels: the rule of the labels, see `kdlight.data.targets.batch_labels`.
        ignore_index: labels of this value are ignored.
        place: what has one position per logit: ``"tokens"``, the ``input_ids``; ``"decoder"``, the
            inputs of the decoder of an encoder-decoder; ``"teacher_tokens"``, the entries of a
            `kdlight.data.TeacherTokens`; ``"row"``, nothing: a row has ``positions`` of its own.
        positions: shape of the positions of a row, where the place is ``"row"`` and there are no
            labels: () for one position, (H, W) for a map.
        image_tokens: ids of tokens that stand for an image. A row has the images of its own tokens.
    """

    labels: LabelRule = "causal"
    ignore_index: int = IGNORE_INDEX
    place: Place = "tokens"
    positions: tuple[int, ...] = ()
    image_tokens: tuple[int, ...] = ()

    def view(self, batch: Any) -> Any:
        """Return the part of a batch that the teacher reads."""
        if self.place != "teacher_tokens" or not isinstance(batch, Mapping):
            return batch
        own = {n.removeprefix(PREFIX): v for n, v in batch.items() if n.startswith(PREFIX)}
        own.pop("mask", None)  # which is for the objective
        return own

    def valid_positions(self, batch: Any) -> Tensor | None:
        """Return the mask of positions with a label, on the CPU; None if the batch has no labels.

        Example:
            >>> ids = torch.tensor([[5, 6, 7]])
            >>> Layout().valid_positions({"input_ids": ids})
            tensor([[ True,  True, False]])
            >>> Layout("aligned").valid_positions({"input_ids": ids, "labels": ids})
            tensor([[True, True, True]])
        """
        if self.place == "teacher_tokens":
            mask = batch.get(f"{PREFIX}mask") if isinstance(batch, Mapping) else None
            return mask.bool().cpu() if isinstance(mask, Tensor) else None
        if self.place == "row" and isinstance(batch, Mapping) and batch.get("labels") is None:
            return None  # tokens are no labels of a row
        rule = self.labels
        if rule == "causal" and isinstance(batch, Mapping) and batch.get("input_ids") is None:
            rule = "aligned"  # without tokens there is nothing to shift
        labels = batch_labels(batch, rule, ignore_index=self.ignore_index)
        return None if labels is None else (labels != IGNORE_INDEX).cpu()

    def shape(self, batch: Any, count: int) -> torch.Size:
        """Return the shape of the positions of the logits for a batch of ``count`` rows.

        Example:
            >>> Layout(place="row").shape((torch.zeros(4, 3), torch.zeros(4)), 4)
            torch.Size([4])
        """
        read = self.view(batch)
        has_tokens = isinstance(read, Mapping) and isinstance(read.get("input_ids"), Tensor)
        if has_tokens and self.place in ("tokens", "teacher_tokens"):
            return read["input_ids"].shape
        if self.place == "decoder":
            return decoder_ids(read).shape
        valid = self.valid_positions(batch)
        if self.positions and valid is not None and valid.dim() == 1 + len(self.positions):
            return valid.shape
        return torch.Size([count, *self.positions])


def decoder_ids(batch: Mapping[str, Any]) -> Tensor:
    """Return ``decoder_input_ids``, or the labels that an encoder-decoder makes them from.

    Raises:
        ValueError: If a batch has neither.

    Example:
        >>> decoder_ids({"labels": torch.zeros(2, 5)}).shape
        torch.Size([2, 5])
    """
    for name in ("decoder_input_ids", "labels"):
        if isinstance(batch.get(name), Tensor):
            return batch[name]
    raise ValueError(
        "the cache is of an encoder-decoder, whose batches have 'decoder_input_ids' or 'labels',"
        f" got {sorted(map(str, batch))}"
    )
