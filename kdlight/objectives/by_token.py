"""Objectives that are a sum over positions of a rule on rows of logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight.objectives.base import Objective, Step, check_vocabularies
from kdlight.reduce import Loss, RowValues, token_sum

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
