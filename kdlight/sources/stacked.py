"""Different rows from different sources, and rows without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdlight.losses.device_numbers import numbers_like
from kdlight.sources.base import Index, LogitsSource
from kdlight.sources.mixture import Mixture, widest_dtype
from kdlight.sources.weight_sums import WeightSums


@dataclass(eq=False)
class Stacked(LogitsSource):
    """Logits whose positions come from different sources.

    Attributes:
        sources: the sources.
        owner: which of them has the logits of a position, ``(...)``.
        place: the index of the position among the flattened ones of that source, ``(...)``.
        names: the names of K teachers, of which ``numbers`` are the sources; none if the sources
            are not one teacher each.
        numbers: the index in ``names`` of each source.
        sums: the positions of each teacher that were evaluated.

    Example:
        >>> from kdlight import Dense
        >>> owner, place = torch.tensor([1, 0]), torch.tensor([0, 0])
        >>> Stacked((Dense(torch.zeros(1, 2)), Dense(torch.ones(1, 2))), owner, place).logits()
        tensor([[1., 1.],
                [0., 0.]])
    """

    sources: tuple[LogitsSource, ...]
    owner: Tensor
    place: Tensor
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    sums: WeightSums = field(default_factory=WeightSums)

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return torch.Size([*self.owner.shape, self.sources[0].shape[-1]])

    @property
    def dtype(self) -> torch.dtype:
        """The widest dtype of the sources."""
        return widest_dtype(self.sources)

    @property
    def device(self) -> torch.device:
        """Device of ``owner``."""
        return self.owner.device

    def select(self, index: Index) -> Stacked:
        """Return rows ``index`` of the flattened positions."""
        index = slice(None) if index is None else index
        return replace(self, owner=self.owner.flatten()[index], place=self.place.flatten()[index])

    @property
    def shares(self) -> Mapping[str, Tensor]:
        """The share of the positions that were evaluated by the name of their teacher."""
        means = self.sums.means()
        return {} if means is None else dict(zip(self.names, means.unbind(), strict=True))

    @property
    def weight_sums(self) -> WeightSums:
        """What `shares` are computed from."""
        return self.sums

    def position_weights(self) -> Tensor:
        """Return ``(..., K)``, 1 at the teacher of a position and 0 at all others."""
        numbers = numbers_like(self.numbers, self.owner)
        return one_hot(numbers[self.owner].long(), len(self.names)).float()

    def without_labels(self) -> Stacked:
        """Return the source as it is where labels are not known."""
        sources = tuple(source.without_labels() for source in self.sources)
        is_same = all(a is b for a, b in zip(sources, self.sources, strict=True))
        return self if is_same else replace(self, sources=sources)

    def logits(self) -> Tensor:
        """Compute the logits of every source and put them in their places."""
        return self._assemble(None).view(self.shape)

    def given_student(self, student: Tensor) -> Tensor:
        """Compute the logits, given the student's, ``(n, V) -> (n, V)``."""
        return self._assemble(student)

    def _assemble(self, student: Tensor | None) -> Tensor:
        flat = self.select(None)
        if self.names:
            self.sums.add(flat.position_weights())
        places, blocks = [], []
        for number, source in enumerate(self.sources):
            rows = (flat.owner == number).nonzero().flatten()
            is_last = number + 1 == len(self.sources)
            if len(rows) or (is_last and not blocks):  # without any row the result is (0, V)
                part = source.select(flat.place[rows])
                blocks.append(
                    part.logits()
                    if student is None
                    else part.given_student(student.index_select(0, rows))
                )
                places.append(rows)
        # each block in its own precision, all of them in the widest
        return torch.cat(blocks).index_select(0, torch.cat(places).argsort())


@dataclass(eq=False)
class Unqueried(LogitsSource):
    """Positions at which the teacher was not queried: their logits are the student's own.

    Every divergence from them is 0 and has a gradient of 0.

    Example:
        >>> Unqueried(torch.Size([1]), 2).given_student(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 2.]])
    """

    positions: torch.Size
    vocabulary: int

    @property
    def shape(self) -> torch.Size:
        """Shape ``(..., V)``."""
        return torch.Size([*self.positions, self.vocabulary])

    @property
    def dtype(self) -> torch.dtype:
        """The narrowest float, so that other sources decide: there are no tensors here."""
        return torch.float16

    @property
    def device(self) -> torch.device:
        """The CPU: there are no tensors here."""
        return torch.device("cpu")

    def select(self, index: Index) -> Unqueried:
        """Return as many rows as ``index`` selects."""
        if isinstance(index, Tensor):
            return replace(self, positions=torch.Size([len(index)]))
        rows = torch.empty(self.positions, device="meta").flatten()
        return replace(self, positions=rows[slice(None) if index is None else index].shape)

    def logits(self) -> Tensor:
        """Raise a ValueError: there are no logits without a student."""
        raise ValueError(
            "the teacher was not queried at these positions, so they have no logits without the"
            " student's; call given_student(student_logits)"
        )

    def given_student(self, student: Tensor) -> Tensor:
        """Return the student's own logits, detached."""
        return student.detach()


def stack(
    sources: Sequence[LogitsSource],
    rows: Sequence[Tensor],
    positions: torch.Size,
    device: torch.device,
    *,
    names: tuple[str, ...] = (),
    numbers: tuple[int, ...] = (),
) -> Stacked:
    """Combine sources that each have some rows of a batch.

    Args:
        sources: sources of ``(B_i, ..., V)``.
        rows: the rows of the batch that each of them has, ``(B_i,)``.
        positions: shape of the positions of the whole batch, ``(B, ...)``.
        device: device of the indices, that of the student's logits.
        names: see `Stacked`.
        numbers: see `Stacked`.

    Example:
        >>> from kdlight import Dense
        >>> sources = [Dense(torch.zeros(1, 2)), Dense(torch.ones(1, 2))]
        >>> rows = [torch.tensor([1]), torch.tensor([0])]
        >>> stack(sources, rows, torch.Size([2]), torch.device("cpu")).logits()
        tensor([[1., 1.],
                [0., 0.]])
    """
    width = positions[1:].numel()
    owner, place = (torch.zeros(positions[0], dtype=torch.long) for _ in range(2))
    for number, own_rows in enumerate(rows):
        owner[own_rows], place[own_rows] = number, torch.arange(len(own_rows))
    owner = owner[:, None].expand(-1, width)
    place = place[:, None] * width + torch.arange(width)
    owner, place = (each.reshape(positions).to(device) for each in (owner, place))
    return Stacked(tuple(sources), owner, place, names, numbers)


def without_names(source: LogitsSource) -> LogitsSource:
    """Return the same logits without the teachers apart, and without the shares of each.

    Example:
        >>> from kdlight import Dense
        >>> one, two = Dense(torch.zeros(2, 5)), Dense(torch.ones(2, 5))
        >>> without_names(Mixture((one, two), (0.5, 0.5), ("one", "two"))).parts
        {}
    """
    return replace(source, names=()) if isinstance(source, (Mixture, Stacked)) else source
