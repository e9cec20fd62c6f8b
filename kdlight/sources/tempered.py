"""Logits divided by a temperature, whatever they are computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.sources.aligned import Aligned
from kdlight.sources.base import Dense, LogitsSource
from kdlight.sources.detached import Detached
from kdlight.sources.mixture import Mixture
from kdlight.sources.projected import Projected
from kdlight.sources.stacked import Stacked, Unqueried
from kdlight.sources.top_k import TopK
from kdlight.sources.transformed import Moved
from kdlight.sources.weight_sums import WeightSums
from kdlight.sources.wrapped import Wrapped

Transform = Callable[[Tensor], Tensor]


def tempered(source: LogitsSource, temperature: float) -> LogitsSource:
    """Divide the logits of ``source`` by ``temperature``, without computing them here.

    A `TopK` and a `Projected` keep their type. Rows that a teacher was not queried about keep the
    student's logits. The average of several teachers is divided as a whole.

    Raises:
        ValueError: an average of teachers that know a part of the vocabulary only.

    Example:
        >>> import torch
        >>> tempered(Dense(torch.tensor([4.0, 2.0])), 2.0).logits()
        tensor([2., 1.])
    """
    if temperature == 1 or isinstance(source, Unqueried):
        return source
    if isinstance(source, Dense):
        return Dense(widen(source.tensor) / temperature)
    if isinstance(source, TopK):
        return replace(source, temperature=source.temperature * temperature)
    if isinstance(source, Projected):
        return replace(source, transform=_Divide(source.transform, temperature))
    if isinstance(source, Stacked):
        rows = tuple(tempered(each, temperature) for each in source.sources)
        return replace(source, sources=rows)
    if isinstance(source, (Aligned, Detached, Moved)):
        return replace(source, source=tempered(source.source, temperature))
    if isinstance(source, Mixture) and any(map(depends_on_student, source.sources)):
        raise ValueError(
            "the average of teachers that know a part of the vocabulary or of the rows only (cached"
            " or selective ones) cannot be divided by a temperature as a whole; give each of them"
            " one, as in kdlight.CachedTeacher(path, temperature=2.0)"
        )
    return Tempered(source, temperature)


def depends_on_student(source: LogitsSource) -> bool:
    """Return whether a source completes its logits with those of the student.

    Example:
        >>> import torch
        >>> logits = torch.zeros(2, 5)
        >>> depends_on_student(Dense(logits)), depends_on_student(TopK.of(logits, 3))
        (False, True)
    """
    if isinstance(source, (Mixture, Stacked)):
        return any(map(depends_on_student, source.sources))
    if isinstance(source, (Aligned, Tempered)):
        return depends_on_student(source.source)
    return type(source).given_student is not LogitsSource.given_student


def has_no_level(source: LogitsSource) -> bool:
    """Return whether a source has log-probabilities, which are logits up to a constant.

    Example:
        >>> import torch
        >>> logits = torch.zeros(2, 5)
        >>> has_no_level(Dense(logits)), has_no_level(TopK.of(logits, 3))
        (False, True)
    """
    if isinstance(source, Stacked):
        return any(map(has_no_level, source.sources))
    if isinstance(source, Wrapped):
        return has_no_level(source.source)
    return isinstance(source, (TopK, Mixture))


@dataclass(eq=False)
class Tempered(Wrapped):
    """Logits of a source that combines others, divided by a temperature when they are computed.

    It has no `parts`: the temperature is that of the whole, not of the teachers in it.

    Attributes:
        source: the source.
        temperature: what its logits are divided by.

    Example:
        >>> import torch
        >>> one, two = Dense(torch.tensor([[9.0, -9.0]])), Dense(torch.tensor([[-9.0, 9.0]]))
        >>> mixture = Mixture((one, two), (0.8, 0.2), ("one", "two"))
        >>> Tempered(mixture, 2.0).logits().softmax(-1)  # 0.8 : 0.2 becomes 2 : 1
        tensor([[0.6667, 0.3333]])
    """

    temperature: float

    def logits(self) -> Tensor:
        """Compute the logits and divide them."""
        return widen(self.source.logits()) / self.temperature

    def given_student(self, student: Tensor) -> Tensor:
        """Compute the logits, given the student's, and divide them, ``(n, V) -> (n, V)``."""
        return widen(self.source.given_student(student)) / self.temperature

    @property
    def shares(self) -> Mapping[str, Tensor]:
        """The mean weight of each teacher, over the positions that were evaluated."""
        return self.source.shares

    @property
    def weight_sums(self) -> WeightSums | None:
        """What `shares` are computed from."""
        return self.source.weight_sums

    def without_labels(self) -> LogitsSource:
        """Return the source as it is where labels are not known."""
        inner = self.source.without_labels()
        return self if inner is self.source else tempered(inner, self.temperature)


@dataclass(eq=False)
class _Divide:
    before: Transform | None
    temperature: float

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits if self.before is None else self.before(logits)
        return widen(logits) / self.temperature
