"""Positions of a batch divided among ranks, as in context parallelism: its loss and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan, prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kdlight.data.targets import LabelRule, batch_labels
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.objectives import Objective, TokenObjective, Weighted
from kdlight.sources import LogitsSource

WHOLE_ROWS = ("rejected", "span_ids", "teacher_mask", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")
"""Entries of a batch that tell about whole rows."""


@dataclass(frozen=True)
class PositionShares:
    """Cuts each sequence into one slice of consecutive positions per rank.

    The last slice is padded, so that all are equally long. `divide_positions` uses it for a batch;
    use `of_source` for logits of whole sequences, such as those of a cached teacher.

    Args:
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
    ``labels="aligned"``. Attention over positions of other ranks is a matter of the model, which
    must expect consecutive positions.

    A loss must be a sum over tokens. Other objectives are refused if ``objective`` is given:
    preferences, spans, optimal transport, weights of a sequence, features, and
    `kdlight.objectives.ULD`.

    Args:
        batch: a mapping with ``input_ids`` ``(B, T)``, the same on all ranks. Tensors ``(B, T,
            ...)`` are divided and padded with 0 to equal lengths, labels with -100, or with NaN if
            they are floats. Other entries stay as they are. ``position_ids`` count on through all
            ranks; without them they are counted from the first token, or from the
            ``attention_mask``.
        group: the ranks; None for all, or for this process alone if there are no others.
        labels: where the labels of ``batch`` stand, see `kdlight.data.batch_labels`.
        ignore_index: labels of this value are ignored.
        objective: the objective of the run, to be checked.

    Raises:
        ValueError: the batch has no ``input_ids`` ``(B, T)``, or an entry that tells about whole
            rows, or labels of other positions; ``objective`` is no sum over tokens.

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
        if not _has_positions(aligned, ids):
            raise ValueError(
                f"labels have shape {tuple(aligned.shape)}, but those of positions that are divided"
                f" among ranks must have that of input_ids, {tuple(ids.shape)}; divide no positions"
                " where labels are those of whole rows, or set labels='none'"
            )
        if aligned.is_floating_point():
            divided["labels"] = shares.of(aligned, fill=nan)
        else:
            divided["labels"] = shares.of(aligned.long(), fill=IGNORE_INDEX)
    return divided


def check_divisible(objective: nn.Module) -> None:
    """Raise a ValueError for an objective that is no sum over tokens.

    Example:
        >>> from kdlight.objectives import ULD
        >>> check_divisible(ULD())
        Traceback (most recent call last):
        ValueError: ULD is no sum over tokens, but positions are divided among ranks; ...
    """
    for part in _terms(objective):
        is_sum = part.is_per_token or isinstance(part, TokenObjective)
        if not is_sum or getattr(part, "granularity", "") == "sequence":
            raise ValueError(
                f"{type(part).__name__} is no sum over tokens, but positions are divided among"
                " ranks; use an objective that is one, or do not divide positions"
            )


def _terms(objective: nn.Module) -> Iterator[Objective]:
    """Yield the objectives that are added up."""
    if isinstance(objective, Objective) and not isinstance(objective, Weighted):
        yield objective
    else:
        for part in objective.children():
            yield from _terms(part)


def _has_positions(value: Any, ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape[:2] == ids.shape


def _positions(ids: Tensor, mask: Tensor | None) -> Tensor:
    """Count the tokens of each row from 0; from the first one that is not padding on the left."""
    counted = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    if mask is None:
        return counted
    first = (mask != 0).long().argmax(1, keepdim=True)
    return (counted - first).clamp(min=0)
