"""What a teacher is: a callable from a batch to a logits source, outside the module tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from kdlight.logits import Logits, LogitsSource

if TYPE_CHECKING:
    from kdlight.teachers.frozen import FrozenTeacher


@runtime_checkable
class Teacher(Protocol):
    """What a `kdlight.DistillationModule` asks of a teacher.

    Example:
        >>> from kdlight import FrozenTeacher, Plain
        >>> isinstance(FrozenTeacher(Plain(torch.nn.Linear(4, 3))), Teacher)
        True
    """

    def __call__(self, batch: Any) -> LogitsSource:
        """Logits for ``batch``, on the positions that the student's logits stand at."""
        ...

    def prepare(self, device: torch.device) -> None:
        """Called before a run starts: be on ``device``."""
        ...

    def release(self) -> None:
        """Called after a run: free the device's memory."""
        ...


class TeacherBase(ABC):
    """A `Teacher` to inherit from: all but the answer has a default, and a config can name it.

    Example:
        >>> from kdlight import Dense
        >>> class Uniform(TeacherBase):
        ...     def __call__(self, batch):
        ...         return Dense(torch.zeros(*batch["input_ids"].shape, 5))
        >>> Uniform()({"input_ids": torch.zeros(2, 3)}).shape
        torch.Size([2, 3, 5])
    """

    @abstractmethod
    def __call__(self, batch: Any) -> LogitsSource:
        """Logits for ``batch``, on the positions that the student's logits stand at."""

    def limit(self, student: Logits) -> Logits:
        """The student's logits as far as this teacher can judge them; by default all of them."""
        return student

    def prepare(self, device: torch.device) -> None:
        """Called before a run starts: be on ``device``."""
        for teacher in self.live():
            teacher.prepare(device)

    def rest(self) -> None:
        """Called before an optimizer step: free memory until the next batch, if so asked."""
        for teacher in self.live():
            teacher.rest()

    def release(self) -> None:
        """Called after a run: free the device's memory."""
        for teacher in self.live():
            teacher.release()

    def live(self) -> Iterator[FrozenTeacher]:
        """The live networks within, which take memory and may be sharded."""
        yield from ()

    def __deepcopy__(self, memo: dict[int, Any]) -> TeacherBase:
        # whoever copies a module (weight averaging does) wants a second student, not a second
        # teacher: it never changes, so all copies share it
        return self


def live_teachers(teacher: object) -> list[FrozenTeacher]:
    """The live networks within ``teacher``, whatever it is.

    Example:
        >>> from kdlight import FrozenTeacher, Plain, TeacherPool
        >>> networks = {name: Plain(torch.nn.Linear(4, 3)) for name in ("one", "other")}
        >>> pool = TeacherPool({name: FrozenTeacher(each) for name, each in networks.items()})
        >>> len(live_teachers(pool))
        2
    """
    return list(teacher.live()) if isinstance(teacher, TeacherBase) else []
