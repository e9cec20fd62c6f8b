"""A teacher with another vocabulary than the student."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from kdlight.models.pretrained import as_tokenizer
from kdlight.sources import Aligned, Logits, LogitsSource, as_source, masked_columns
from kdlight.teachers import FrozenTeacher, Teacher
from kdlight.vocabulary.alignment import Policy, Tokens, align


class AlignedTeacher(Teacher):
    """A teacher whose vocabulary differs from the student's in ids or in some tokens.

    A batch has the student's token ids. They are mapped to the teacher's ids, and the teacher's
    logits are mapped back to the student's order. Tokens that only one model has are outside the
    vocabulary for both: the teacher's columns are dropped, and the student's are -inf in every
    objective, so that they get no gradient.

    Args:
        teacher: a teacher, or a network to run as one.
        student_tokenizer: the tokenizer of the student and the data, or its location, like the
            ``source`` of a `kdlight.CausalLM`.
        teacher_tokenizer: the tokenizer of the teacher, or its location.
        policy: how vocabularies are aligned, see `align`.
        student_size: width of the student's logits, if it is larger than its vocabulary.
        teacher_size: width of the teacher's logits; None for its attribute ``vocab_size``.

    Raises:
        ValueError: If the vocabularies do not fit; when called, if a token of the batch is not in
            the teacher's vocabulary.

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
        """Width V of the logits in the student's vocabulary."""
        return self.alignment.student_size

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> Aligned:
        """Return the teacher's logits for ``batch`` in the student's vocabulary."""
        ids = self.alignment.to_teacher(batch["input_ids"])
        return Aligned(self.teacher({**batch, "input_ids": ids}), self.alignment)

    def teachers(self) -> Iterable[Teacher]:
        """Return the teacher whose vocabulary is aligned."""
        return (self.teacher,)

    @property
    def translates_tokens(self) -> bool:
        """Whether token ids of batch and teacher can differ; always True."""
        return True

    def mask_student(self, student: Logits) -> LogitsSource:
        """Mask the columns of the student's logits that the teacher lacks."""
        return masked_columns(as_source(student), self.alignment.student_only())


def read_tokens(tokenizer: str | Callable[..., Any]) -> Tokens:
    """Return the ids of all tokens by their strings, including added tokens.

    Example:
        >>> class Letters:  # stands for a tokenizer
        ...     def get_vocab(self):
        ...         return {"a": 0, "b": 1}
        >>> read_tokens(Letters())["b"]
        1
    """
    return as_tokenizer(tokenizer).get_vocab()
