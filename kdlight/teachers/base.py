"""The contract of a teacher: from a batch to a logits source, outside of the module tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from kdlight.sources import Logits, LogitsSource


class Teacher(ABC):
    """A teacher of a `kdlight.DistillationModule`, which it holds outside of its module tree.

    A subclass defines `answer`. A teacher that contains others returns them from `teachers`, and
    all other methods then apply to each of them.

    Example:
        >>> from kdlight import Dense
        >>> class Uniform(Teacher):
        ...     def answer(self, batch, student=None, labels=None):
        ...         return Dense(torch.zeros(*batch["input_ids"].shape, 5))
        >>> Uniform()({"input_ids": torch.zeros(2, 3)}).shape
        torch.Size([2, 3, 5])
    """

    @abstractmethod
    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Return the teacher's logits for ``batch``, on the positions of the student's logits.

        Args:
            batch: the batch.
            student: the student's logits ``(B, ..., V)``, if ``needs_student`` in training.
            labels: aligned labels ``(B, ...)``, -100 at invalid positions, if the batch has any:
                with ``needs_student`` in training, with ``needs_labels`` in evaluation as well.
        """

    def __call__(self, batch: Any) -> LogitsSource:
        """Return the teacher's logits for all of ``batch``."""
        return self.answer(batch)

    def expect(self, batch: Any) -> None:
        """Prepare for ``batch``, which will be asked about next; it may be on another device."""
        for teacher in self.teachers():
            teacher.expect(batch)

    # ---- what a teacher consists of

    def teachers(self) -> Iterable[Teacher]:
        """Return the teachers that this one contains."""
        return ()

    def networks(self) -> list[nn.Module]:
        """Return the live networks, each once, which take memory and may be sharded."""
        found = (network for teacher in self.teachers() for network in teacher.networks())
        return list(dict.fromkeys(found))

    @property
    def needs_student(self) -> bool:
        """Whether `answer` needs the student's logits in training."""
        return any(teacher.needs_student for teacher in self.teachers())

    @property
    def needs_labels(self) -> bool:
        """Whether `answer` reads the labels, in training and in evaluation."""
        return any(teacher.needs_labels for teacher in self.teachers())

    @property
    def scores_new_text(self) -> bool:
        """Whether `answer` has logits for any text, such as one that the student generates.

        By default if it has a network, and so have all teachers that it contains.
        """
        parts = list(self.teachers())
        return all(each.scores_new_text for each in parts) and bool(parts or self.networks())

    @property
    def vocab_size(self) -> int | None:
        """Width V of the logits, or None if it is unknown."""
        return next((each.vocab_size for each in self.teachers() if each.vocab_size), None)

    @property
    def is_sharded(self) -> bool:
        """Whether a network is to be sharded over ranks."""
        return any(teacher.is_sharded for teacher in self.teachers())

    @property
    def translates_tokens(self) -> bool:
        """Whether the teacher's token ids are other ones than those of the batch."""
        return any(teacher.translates_tokens for teacher in self.teachers())

    @property
    def is_remote(self) -> bool:
        """Whether logits come from a server, which is asked as early as possible, see `expect`."""
        return any(teacher.is_remote for teacher in self.teachers())

    @property
    def looks_ahead(self) -> bool:
        """Whether it is told the next training batch, see `expect`, one step before."""
        return any(teacher.looks_ahead for teacher in self.teachers())

    def fingerprints(self) -> list[str]:
        """Return texts that tell the weights of teachers that are no live networks apart."""
        return [text for teacher in self.teachers() for text in teacher.fingerprints()]

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise a ValueError where the teacher was made with another tokenizer."""
        for teacher in self.teachers():
            teacher.check_tokenizer(tokenizer)

    def check_labels(self, rule: str, ignore_index: int) -> None:
        """Raise a ValueError where the teacher was made with another rule of the labels."""
        for teacher in self.teachers():
            teacher.check_labels(rule, ignore_index)

    def mask_student(self, student: Logits) -> Logits:
        """Mask the columns of the student's logits that the teacher does not have."""
        for teacher in self.teachers():
            student = teacher.mask_student(student)
        return student

    def student_size(self, size: int) -> int:
        """Return the width of a student's logits after `mask_student`, from their own width."""
        for teacher in self.teachers():
            size = teacher.student_size(size)
        return size

    def metrics(self) -> dict[str, float]:
        """Return what to log of the last answer, by name."""
        return {name: v for teacher in self.teachers() for name, v in teacher.metrics().items()}

    # ---- lifecycle

    def prepare(self, device: torch.device) -> None:
        """Move to ``device``; called before a run starts."""
        for teacher in self.teachers():
            teacher.prepare(device)

    def distribute(self, mesh: DeviceMesh) -> None:
        """Shard over the ranks of ``mesh`` what is to be sharded; called once under FSDP2."""
        for teacher in self.teachers():
            teacher.distribute(mesh)

    def offload(self) -> None:
        """Free device memory until the next batch, if configured; called before optimizer steps."""
        for teacher in self.teachers():
            teacher.offload()

    def release(self) -> None:
        """Free device memory; called after a run."""
        for teacher in self.teachers():
            teacher.release()

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        # a copy of a module (weight averaging makes one) is to share the teacher, which is constant
        return self
