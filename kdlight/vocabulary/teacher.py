"""A teacher with another vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from kdlight.models import load_tokenizer
from kdlight.sources import Aligned, Logits, LogitsSource, as_source, masked_columns
from kdlight.teachers import FrozenTeacher, Teacher
from kdlight.vocabulary.align import Policy, Tokens, align


class AlignedTeacher(Teacher):
    """A teacher whose vocabulary is not quite the student's.

    Token ids of a batch are the student's; the teacher is given its own for them, and its logits
    come back in the student's order. Columns that only one side has are outside the vocabulary for
    both: the teacher's are left out, and the student's are -inf to every objective, so that they
    are neither rewarded nor pushed down.

    Args:
        teacher: the teacher, or the network of a live one.
        student_tokenizer: the tokenizer of student and data, or where it is, spelled like the
            ``source`` of a `kdlight.CausalLM`.
        teacher_tokenizer: that of the teacher.
        policy: see `align`.
        student_size: number of columns of the student's logits, if there are more than tokens.
        teacher_size: the same of the teacher; None for what it says of itself.

    Raises:
        ValueError: the vocabularies do not fit; with a batch, a token that the teacher lacks.

    Example:
        >>> class Letters:  # stands for a tokenizer
        ...     def __init__(self, letters):
        ...         self.ids = {letter: id for id, letter in enumerate(letters)}
        ...     def get_vocab(self):
        ...         return self.ids
        >>> teacher = AlignedTeacher(
        ...     nn.Embedding(3, 3),
        ...     student_tokenizer=Letters("abc"),
        ...     teacher_tokenizer=Letters("cab"),
        ...     policy="map",
        ... )
        >>> teacher.alignment.teacher_ids
        tensor([1, 2, 0])
    """

    def __init__(
        self,
        teacher: nn.Module | Teacher,
        *,
        student_tokenizer: str | Callable[..., Any],
        teacher_tokenizer: str | Callable[..., Any],
        policy: Policy = "strict",
        student_size: int | None = None,
        teacher_size: int | None = None,
    ) -> None:
        self.teacher = teacher if isinstance(teacher, Teacher) else FrozenTeacher(teacher)
        if teacher_size is None:
            teacher_size = self.teacher.vocab_size
        self.alignment = align(
            read_tokens(student_tokenizer),
            read_tokens(teacher_tokenizer),
            policy=policy,
            student_size=student_size,
            teacher_size=teacher_size,
        )

    @property
    def vocab_size(self) -> int:
        """Width V of the logits, in the student's vocabulary."""
        return self.alignment.student_size

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> Aligned:
        """Return the teacher's logits for ``batch``, in the student's vocabulary."""
        ids = self.alignment.to_teacher(batch["input_ids"])
        return Aligned(self.teacher({**batch, "input_ids": ids}), self.alignment)

    def teachers(self) -> Iterable[Teacher]:
        """Return the teacher whose vocabulary is aligned."""
        return (self.teacher,)

    @property
    def translates_tokens(self) -> bool:
        """Whether token ids differ between batch and teacher: they may."""
        return True

    def mask_student(self, student: Logits) -> LogitsSource:
        """Mask the columns of the student's logits that the teacher lacks."""
        return masked_columns(as_source(student), self.alignment.student_only())


def read_tokens(tokenizer: str | Callable[..., Any]) -> Tokens:
    """Ids of all tokens by their strings, added ones too.

    Example:
        >>> class Letters:  # stands for a tokenizer
        ...     def get_vocab(self):
        ...         return {"a": 0, "b": 1}
        >>> read_tokens(Letters())["b"]
        1
    """
    loaded: Any = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    return loaded.get_vocab()
