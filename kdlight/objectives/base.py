"""What an objective is: a `Step` in, a `Loss` out."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.logits import Logits, LogitsSource, as_source
from kdlight.reduce import Chunked, Loss, RowValues, token_sum


@dataclass(frozen=True)
class Step:
    """What one training step offers an objective; positions are already aligned and masked.

    Attributes:
        student: student logits, a source of ``(..., V)``; a tensor is wrapped.
        teacher: teacher logits on the same positions, or None where there is no teacher.
        labels: aligned labels ``(...)``: the label of a position stands at that position.
        mask: boolean ``(...)``, True where a position counts; None keeps all.
        teacher_mask: the mask of a teacher with positions of its own (another tokenizer).
        rejected: boolean ``(B,)``, True where a sequence is one to move away from.
        span_ids: aligned integers ``(B, T)``, one number a span, -1 outside all of them.
        chunked: whether logits are made in chunks, see `kdlight.reduce.Chunking`.

    Example:
        >>> step = Step(torch.zeros(2, 5), torch.zeros(2, 5), mask=torch.tensor([False, True]))
        >>> step.student.shape, step.kept()
        (torch.Size([2, 5]), tensor([1]))
    """

    student: LogitsSource
    teacher: LogitsSource | None = None
    labels: Tensor | None = None
    mask: Tensor | None = None
    teacher_mask: Tensor | None = None
    rejected: Tensor | None = None
    span_ids: Tensor | None = None
    chunked: Chunked = "auto"

    def __init__(
        self,
        student: Logits,
        teacher: Logits | None = None,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        teacher_mask: Tensor | None = None,
        rejected: Tensor | None = None,
        span_ids: Tensor | None = None,
        chunked: Chunked = "auto",
    ) -> None:
        fields = {
            "student": as_source(student),
            "teacher": None if teacher is None else as_source(teacher),
            "labels": labels,
            "mask": mask,
            "teacher_mask": teacher_mask,
            "rejected": rejected,
            "span_ids": span_ids,
            "chunked": chunked,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def kept(self) -> Tensor:
        """Indices ``(n,)`` of the positions that count, among the flattened positions."""
        if self.mask is not None:
            return self.mask.flatten().nonzero().squeeze(-1)
        return torch.arange(prod(self.student.shape[:-1]))


class Objective(nn.Module):
    """A distillation objective: hyper-parameters, perhaps state, and ``forward(step) -> Loss``.

    ``forward`` never sees a trainer and never changes a buffer: what moves over time (``t``, a
    temperature, a weight) is a plain attribute that a callback moves.

    Attributes:
        needs_teacher: whether ``step.teacher`` must be there.
        needs_labels: whether ``step.labels`` must be there.
        by_row: whether the objective is the sum of its ``rows`` and nothing else, so that
            `Weighted` may evaluate it together with others.
        unit: what ``Loss.count`` counts. Terms of a mixture that count something else than
            ``"token"`` are brought to tokens by `Weighted`.

    Example:
        >>> class Distance(Objective):
        ...     def forward(self, step):
        ...         difference = step.student.logits() - step.teacher.logits()
        ...         return Loss(difference.square().sum(), torch.tensor(len(step.kept())))
        >>> Distance()(Step(torch.zeros(2, 5), torch.ones(2, 5))).mean()
        tensor(5.)
    """

    needs_teacher: bool = True
    needs_labels: bool = False
    by_row: bool = False
    unit: str = "token"

    def forward(self, step: Step) -> Loss:
        """Evaluate the objective on one step."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(step)")

    def check(self, step: Step) -> None:
        """Raise a ValueError that says what is missing, or what does not fit, in ``step``."""
        if self.needs_teacher and step.teacher is None:
            raise ValueError(f"{type(self).__name__} needs a teacher, but the step has none")
        if self.needs_labels and step.labels is None:
            raise ValueError(f"{type(self).__name__} needs labels, but the step has none")


RULES = ("rows", "divergence")
"""Methods that say what the loss of a row is."""

CLOSED_FORMS = ("closed_form", "slopes")
"""Methods that say it again, together with the gradient."""


class TokenObjective(Objective):
    """An objective that is a sum over positions of a rule on rows of logits.

    A subclass writes `rows` and gets masking, normalisation, mixed precision, accumulation, ranks
    and bounded memory from the driver. It may also write `closed_form`, for speed; a subclass of
    its own that changes the rule and not the closed form is evaluated by the rule.

    Example:
        >>> import torch
        >>> class Agreement(TokenObjective):
        ...     def rows(self, student, teacher, labels):
        ...         return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)
        >>> step = Step(torch.zeros(2, 5), torch.zeros(2, 5), mask=torch.tensor([True, False]))
        >>> Agreement()(step).count
        tensor(1)
    """

    by_row = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # a rule of its own must not be evaluated by the closed form of another
        written = vars(cls).keys()
        if not written.isdisjoint(RULES) and written.isdisjoint(CLOSED_FORMS):
            cls.closed_form = TokenObjective.closed_form

    def rows(self, student: Tensor, teacher: Any, labels: Any) -> RowValues:
        """The loss of each row, ``(n, V), (n, V), (n,) -> (n,)``.

        May return a pair of that and a dict of ``(n,)`` values that are summed for the log.
        ``teacher`` or ``labels`` is None where the class does not need it. Rows are evaluated in
        blocks, so that none may depend on another.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define rows()")

    def closed_form(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Values and slopes of `rows`, ``(n, V), (n, V), (n,) -> (n,), (n, V)``, or None.

        An optimisation: what autograd makes of `rows`, in fewer passes over the logits. They come
        in float32 or wider; where a value is not finite, `rows` is asked instead.
        """
        return None

    def check(self, step: Step) -> None:
        """Besides what every objective needs: one vocabulary on both sides."""
        super().check(step)
        if self.needs_teacher and step.teacher is not None:
            check_vocabularies(step.student.shape[-1], step.teacher.shape[-1])

    def forward(self, step: Step) -> Loss:
        """Sum `rows` over the positions that count."""
        self.check(step)
        return token_sum(
            self.rows,
            step.student,
            step.teacher if self.needs_teacher else None,
            step.labels,
            step.mask,
            closed_form=self.closed_form,
            parameters=tuple(p for p in self.parameters() if p.requires_grad),
            chunked=step.chunked,
        )


def check_vocabularies(student: int, teacher: int) -> None:
    """Raise a ValueError where two vocabularies cannot be compared entry by entry.

    Example:
        >>> check_vocabularies(5, 7)
        Traceback (most recent call last):
        ValueError: teacher and student vocabularies differ: 7 and 5 entries; a token objective ...
    """
    if student != teacher:
        raise ValueError(
            f"teacher and student vocabularies differ: {teacher} and {student} entries; a token"
            " objective compares them entry by entry, so both must come from the same tokenizer"
            " (crop padded vocabularies to the same ids)"
        )
