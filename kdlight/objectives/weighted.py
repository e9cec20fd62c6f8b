"""A weighted sum of objectives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn

from kdlight.objectives.base import Objective, Step
from kdlight.objectives.by_token import TokenObjective
from kdlight.reduce import Loss, RowValues, split_rows, token_sum


class Weighted(Objective):
    r"""A weighted sum of named terms, :math:`\sum_k w_k L_k`.

    There is one denominator, the tokens that count. All token terms are evaluated in one pass over
    the same rows. A term that counts something else (sequences, batches) adds its own mean times
    the tokens of its micro-batch, so that its weight means the same beside a token term whatever
    the batch; where no term counts tokens and all count the same unit, that unit stays.

    Args:
        terms: objectives by name; the name is the name of the term in logs.
        weights: weights by the same names, 1 where left out. A plain dict that callbacks may move.

    Raises:
        ValueError: no terms, or a weight for a term that does not exist.

    Example:
        >>> import torch
        >>> from kdlight.objectives import CrossEntropy, ForwardKL
        >>> mix = Weighted({"kd": ForwardKL(), "ce": CrossEntropy()}, weights={"ce": 0.1})
        >>> x = torch.zeros(3, 5)
        >>> loss = mix(Step(x, x, labels=torch.tensor([0, 1, 2])))
        >>> round(loss.mean().item(), 4), sorted(loss.parts)
        (0.1609, ['ce', 'kd'])
    """

    def __init__(
        self, terms: dict[str, Objective], weights: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        if not terms:
            raise ValueError("terms is empty; give at least one objective by name")
        unknown = sorted(set(weights or {}) - set(terms))
        if unknown:
            raise ValueError(f"weights names {unknown}, but the terms are {sorted(terms)}")
        self.terms = nn.ModuleDict(terms)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in terms}
        self.needs_teacher = any(term.needs_teacher for term in terms.values())
        self.needs_labels = any(term.needs_labels for term in terms.values())
        units = {term.unit for term in terms.values()}
        self.unit = units.pop() if len(units) == 1 else "token"

    def check(self, step: Step) -> None:
        """Every term checks for itself."""
        for _, term in self._named_terms():
            term.check(step)

    def rows(self, student: Tensor, teacher: Any, labels: Any) -> RowValues:
        """The weighted sum of the token terms on rows of logits, and each term for the log."""
        values, parts = [], {}
        for name, term in self._named_terms():
            if _is_by_row(term):
                value, extras = split_rows(term.rows(student, teacher, labels))
                values.append(self.weights[name] * value)
                parts |= {name: value} | {f"{name}/{key}": part for key, part in extras.items()}
        return torch.stack(values).sum(0), parts

    def forward(self, step: Step) -> Loss:
        """Evaluate all terms and add them up."""
        self.check(step)
        losses = {}
        by_row = [term for _, term in self._named_terms() if _is_by_row(term)]
        if by_row:
            losses[""] = token_sum(
                self.rows,
                step.student,
                step.teacher if any(term.needs_teacher for term in by_row) else None,
                step.labels,
                step.mask,
                parameters=tuple(
                    p for term in by_row for p in term.parameters() if p.requires_grad
                ),
                chunked=step.chunked,
            )
        for name, term in self._named_terms():
            if not _is_by_row(term):
                losses[name] = self._in_our_unit(name, term(step), term.unit, step)
        return Loss(
            total=torch.stack([loss.total for loss in losses.values()]).sum(),
            count=next(iter(losses.values())).count,
            parts={key: part for loss in losses.values() for key, part in loss.parts.items()},
        )

    def _in_our_unit(self, name: str, loss: Loss, unit: str, step: Step) -> Loss:
        if unit != self.unit:
            tokens = torch.tensor(step.kept().numel(), device=loss.total.device)
            scale = tokens / loss.count.clamp(min=1)
            loss = Loss(loss.total * scale, tokens, {k: v * scale for k, v in loss.parts.items()})
        parts = {name: loss.total.detach()} | {f"{name}/{k}": v for k, v in loss.parts.items()}
        return Loss(self.weights[name] * loss.total, loss.count, parts)

    def _named_terms(self) -> Iterator[tuple[str, Objective]]:
        return cast("Iterator[tuple[str, Objective]]", iter(self.terms.items()))


def _is_by_row(term: Objective) -> TypeGuard[TokenObjective]:
    return isinstance(term, TokenObjective) and term.by_row
