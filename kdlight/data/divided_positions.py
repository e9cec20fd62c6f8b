"""Positions of a batch divided among ranks, as in context parallelism: its loss and its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdlight.data.targets import LabelRule, batch_labels
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.objectives import MultiLevelOT, Objective, RoutedKD
from kdlight.sources import LogitsSource

WHOLE_ROWS = ("rejected", "span_ids", "teacher_mask", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")
"""Entries of a batch that tell about whole rows."""


@dataclass(frozen=True)
class PositionShares:
    """Consecutive positions for each rank, equally many, of sequences that are padded for that.

    Attributes:
        length: positions of a sequence.
        ranks: number of ranks.
        rank: index of this rank.

    Example:
        >>> shares = PositionShares(5, ranks=2, rank=1)
        >>> shares.own, shares.of(torch.arange(5).unsqueeze(0), fill=-100)
        (slice(3, 6, None), tensor([[   3,    4, -100]]))
    """

    length: int
    ranks: int
    rank: int

    @classmethod
    def over(cls, length: int, group: dist.ProcessGroup | None = None) -> PositionShares:
        """Return the shares of the ranks of ``group``, None for all; of this process without any.

        Example:
            >>> PositionShares.over(5).own
            slice(0, 5, None)
        """
        if not (dist.is_available() and dist.is_initialized()):
            return cls(length, 1, 0)
        return cls(length, dist.get_world_size(group), dist.get_rank(group))

    @property
    def own(self) -> slice:
        """The positions of this rank among those of the padded sequences."""
        size = -(-self.length // self.ranks)
        return slice(self.rank * size, (self.rank + 1) * size)

    def of(self, values: Tensor, *, fill: float = 0) -> Tensor:
        """Return the values of this rank's positions, ``(B, T, ...) -> (B, t, ...)``."""
        part = values[:, self.own]
        missing = self.own.stop - self.own.start - part.shape[1]
        padding = part.new_full((len(part), missing, *part.shape[2:]), fill)
        return torch.cat([part, padding], 1)

    def of_source(self, source: LogitsSource) -> LogitsSource:
        """Return the logits of this rank's positions, ``(B, T, V) -> (B t, V)``.

        For a teacher that was asked for whole sequences, such as one that is cached. Padding, which
        no loss reads, has the logits of the last position.
        """
        sequences, own = prod(source.shape[:-2]), self.own
        columns = torch.arange(own.start, own.stop, device=source.device).clamp(max=self.length - 1)
        rows = torch.arange(sequences, device=source.device) * self.length
        return source.select((rows.unsqueeze(1) + columns).flatten())


def divide_positions(
    batch: Mapping[str, Any],
    *,
    group: dist.ProcessGroup | None = None,
    labels: LabelRule = "causal",
    ignore_index: int = IGNORE_INDEX,
    objective: Objective | None = None,
) -> dict[str, Any]:
    """Return the positions of a batch that are this rank's, with labels aligned before the cut.

    The label of the last position of a rank is the first token of the next one, so that the sums
    and counts of a loss over all ranks, and gradients added over ranks, are those of the whole
    batch. The labels of the result are aligned: the module that reads it needs
    ``labels="aligned"``. What attention reads across ranks is the matter of the model, such as
    `torch.distributed.tensor.experimental.context_parallel`.

    A loss must be a sum over tokens. Objectives on whole sequences are refused if ``objective`` is
    given: preferences, spans, optimal transport or weights of a sequence, `kdlight.objectives.ULD`.
    Features that an objective pools over a sequence are not recognized.

    Args:
        batch: a mapping with ``input_ids`` ``(B, T)``, the same on all ranks. Tensors ``(B, T,
            ...)`` are divided and padded with 0 to equal lengths, labels with -100. Other entries
            stay as they are. ``position_ids`` count on through all ranks; without them they are
            counted from the first token, or from the ``attention_mask``.
        group: the ranks; None for all, or for this process alone if there are no others.
        labels: where the labels of ``batch`` stand, see `kdlight.data.batch_labels`.
        ignore_index: labels of this value are ignored.
        objective: the objective of the run, to be checked.

    Raises:
        ValueError: the batch has no ``input_ids`` ``(B, T)``, or an entry that tells about whole
            rows; ``objective`` compares whole sequences.

    Example:
        >>> divide_positions({"input_ids": torch.tensor([[4, 5, 6]])})["labels"]
        tensor([[   5,    6, -100]])
    """
    if objective is not None:
        check_divisible(objective)
    ids = batch.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        raise ValueError(
            "divide_positions needs a batch with input_ids (B, T), got"
            f" {tuple(ids.shape) if isinstance(ids, Tensor) else ids!r}"
        )
    for name, value in batch.items():
        # a mask (B, 1, T, T) has positions on two axes
        is_named = name in ("attention_mask", "position_ids") and isinstance(value, Tensor)
        is_wide = is_named and value.shape != ids.shape
        if (name in WHOLE_ROWS and value is not None) or is_wide:
            raise ValueError(
                f"the entry {name!r} of the batch tells about whole rows, whose positions cannot be"
                " divided among ranks; leave it out, or use position_ids and an attention_mask of"
                " the shape of input_ids"
            )
    shares = PositionShares.over(ids.shape[1], group)
    divided = {
        name: shares.of(value) if _has_positions(value, ids) else value
        for name, value in batch.items()
    }
    if batch.get("position_ids") is None:
        divided["position_ids"] = shares.of(_positions(ids, batch.get("attention_mask")))
    aligned = batch_labels(batch, labels, ignore_index=ignore_index)
    if aligned is not None:
        divided["labels"] = shares.of(aligned.long(), fill=IGNORE_INDEX)
    return divided


def check_divisible(objective: nn.Module) -> None:
    """Raise a ValueError for an objective that compares whole sequences.

    Example:
        >>> from kdlight.objectives import ULD
        >>> check_divisible(ULD())
        Traceback (most recent call last):
        ValueError: ULD compares whole sequences, whose positions are divided among ranks; ...
    """
    for part in objective.modules():
        unit = getattr(part, "unit", "token")
        whole = isinstance(part, (MultiLevelOT, RoutedKD))
        if unit == "token" and not whole and getattr(part, "granularity", "") != "sequence":
            continue
        if isinstance(part, Objective):
            raise ValueError(
                f"{type(part).__name__} compares whole sequences, whose positions are divided among"
                " ranks; use an objective that is a sum over tokens, or do not divide positions"
            )


def _has_positions(value: Any, ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape[:2] == ids.shape


def _positions(ids: Tensor, mask: Tensor | None) -> Tensor:
    """Count the tokens of each row from 0; from the first one that is not padding on the left."""
    counted = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    if mask is None:
        return counted
    first = (mask != 0).long().argmax(1, keepdim=True)
    return (counted - first).clamp(min=0)
