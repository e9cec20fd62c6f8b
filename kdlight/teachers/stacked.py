"""Sources made of several: rows of different ones, or the average of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdlight.logits import Index, LogitsSource
from kdlight.losses.log_space import log_probs


@dataclass(frozen=True)
class Stacked:
    """Positions that are answered by different sources.

    Attributes:
        parts: the sources.
        owner: which of them answers a position, ``(...)``.
        place: the position among the flattened ones of that source, ``(...)``.
    """

    parts: tuple[LogitsSource, ...]
    owner: Tensor
    place: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return torch.Size([*self.owner.shape, self.parts[0].shape[-1]])

    def select(self, index: Index) -> Stacked:
        """Rows ``index`` of the flattened positions; all for None."""
        index = slice(None) if index is None else index
        return replace(self, owner=self.owner.flatten()[index], place=self.place.flatten()[index])

    def logits(self) -> Tensor:
        """Make the logits, each where it stands."""
        return self._made(None).view(self.shape)

    def against(self, student: Tensor) -> Tensor:
        """Logits beside those of the student, ``(n, V) -> (n, V)``."""
        return self._made(student)

    def _made(self, student: Tensor | None) -> Tensor:
        rows = self.select(None)
        places, blocks = [], []
        for number, part in enumerate(self.parts):
            at = (rows.owner == number).nonzero().flatten()
            last = number + 1 == len(self.parts)
            if len(at) or (last and not blocks):  # of no rows, too, there are logits (0, V)
                seen = None if student is None else student.index_select(0, at)
                blocks.append(answer(part.select(rows.place[at]), seen))
                places.append(at)
        # each in its own precision, all in the widest of them
        return torch.cat(blocks).index_select(0, torch.cat(places).argsort())


@dataclass(frozen=True)
class Mixture:
    """The average of several distributions, as log-probabilities.

    Attributes:
        parts: the sources, over one vocabulary and the same positions.
        weights: what each counts, in sum 1.
    """

    parts: tuple[LogitsSource, ...]
    weights: tuple[float, ...]

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return self.parts[0].shape

    def select(self, index: Index) -> Mixture:
        """Rows ``index`` of the flattened positions; all for None."""
        return replace(self, parts=tuple(part.select(index) for part in self.parts))

    def logits(self) -> Tensor:
        """Log of the average, ``(..., V)``."""
        return self._made(None)

    def against(self, student: Tensor) -> Tensor:
        """Log of the average beside the student's logits, ``(n, V) -> (n, V)``."""
        return self._made(student)

    def _made(self, student: Tensor | None) -> Tensor:
        total = None
        for part, weight in zip(self.parts, self.weights, strict=True):
            log_p = log_probs(answer(part, student))
            log_p = log_p + torch.tensor(weight, dtype=log_p.dtype).log().to(log_p.device)
            total = log_p if total is None else torch.logaddexp(total, log_p)
        assert total is not None
        return total


@dataclass(frozen=True)
class Nobody:
    """Positions that no teacher was asked about: beside a student it says what the student says.

    Every divergence to it is 0, and has a gradient of 0.
    """

    positions: torch.Size
    vocabulary: int

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return torch.Size([*self.positions, self.vocabulary])

    def select(self, index: Index) -> Nobody:
        """As many rows as ``index`` has."""
        number = torch.empty(self.positions, device="meta").flatten()
        if isinstance(index, Tensor):
            return replace(self, positions=torch.Size([len(index)]))
        return replace(self, positions=number[slice(None) if index is None else index].shape)

    def logits(self) -> Tensor:
        """There is nothing to say without a student."""
        raise ValueError("no teacher was asked here, and no student is there to be repeated")

    def against(self, student: Tensor) -> Tensor:
        """The student's own logits."""
        return student.detach()


def answer(source: LogitsSource, student: Tensor | None) -> Tensor:
    """Logits of ``source`` beside those of the student, where it looks at them."""
    against = getattr(source, "against", None)
    return source.logits() if against is None or student is None else against(student)


def stack(
    parts: list[LogitsSource], rows: list[Tensor], positions: torch.Size, device: torch.device
) -> Stacked:
    """Sources that answer some rows of a batch each, put together.

    Args:
        parts: sources of ``(B_i, ..., V)``.
        rows: which rows of the batch each answers ``(B_i,)``.
        positions: of the whole batch, ``(B, ...)``.
        device: where they will be asked.
    """
    width = positions[1:].numel()
    owner, place = (torch.zeros(positions[0], dtype=torch.long) for _ in range(2))
    for number, those in enumerate(rows):
        owner[those], place[those] = number, torch.arange(len(those))
    within = torch.arange(width)
    owner = owner[:, None].expand(-1, width)
    place = place[:, None] * width + within
    return Stacked(
        tuple(parts), owner.reshape(positions).to(device), place.reshape(positions).to(device)
    )


def take(batch: Any, rows: Tensor) -> Any:
    """Some rows of a batch: of every tensor and list that has one entry a row."""
    count = rows_in(batch)

    def some(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() and len(value) == count:
            return value.index_select(0, rows.to(value.device))
        if isinstance(value, list) and len(value) == count:
            return [value[int(row)] for row in rows]
        return value

    if isinstance(batch, Mapping):
        return {name: some(value) for name, value in batch.items()}
    return some(batch) if isinstance(batch, Tensor) else [some(value) for value in batch]


def rows_in(batch: Any) -> int:
    """Number of rows of a batch."""
    if isinstance(batch, Tensor):
        return len(batch)
    values = batch.values() if isinstance(batch, Mapping) else batch
    return next(len(value) for value in values if isinstance(value, Tensor) and value.dim())
