"""A weighted sum of objectives."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, prod
from re import fullmatch
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn

from kdlight.checks import check_instance, check_range
from kdlight.losses.kl import weigh
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.redefined import is_redefined
from kdlight.objectives.token_objective import TokenObjective, closed_form
from kdlight.reduce import Loss, PerTokenValues, coupled_sum, plan, split_values, token_sum
from kdlight.reduce.exchange import group_size
from kdlight.sources import LogitsSource

LOGGED = ("loss", "task", "ignored_share", "t", "alpha", "margin")
"""Names that modules and callbacks log beside the terms of an objective."""


class Weighted(Objective):
    r"""A weighted sum of named terms, :math:`\sum_k w_k L_k`.

    The common count is the number of valid tokens. All per-token terms are evaluated in one pass
    over the same rows. A term with another unit (sequences, pairs) adds its own mean times the
    number of tokens of its micro-batch, so that the effect of its weight does not depend on the
    batch. If all terms have the same unit, it is that of the sum as well.

    Args:
        terms: objectives by name, which is also their name in logs.
        weights: weights by the same names, finite and not negative; 1 if left out. A plain dict,
            which callbacks may change.

    Raises:
        ValueError: there are no terms; a weight has the name of no term, or is negative or not
            finite; a name cannot be logged, or is that of a value which is logged anyway.
        TypeError: a term is not an instance of an objective.

    Example:
        >>> import torch
        >>> from kdlight.objectives import CrossEntropy, ForwardKL
        >>> mix = Weighted({"kd": ForwardKL(), "ce": CrossEntropy()}, weights={"ce": 0.1})
        >>> x = torch.zeros(3, 5)
        >>> loss = mix(LossInputs(x, x, labels=torch.tensor([0, 1, 2])))
        >>> round(loss.mean().item(), 4), sorted(loss.parts)
        (0.1609, ['ce', 'kd'])
    """

    def __init__(
        self, terms: dict[str, Objective], weights: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        if not terms:
            raise ValueError("terms is empty; pass at least one objective by name")
        for name, term in terms.items():
            check_term_name(name)
            check_instance(f"terms[{name!r}]", term, Objective)
        unknown = sorted(set(weights or {}) - set(terms))
        if unknown:
            raise ValueError(f"weights has {unknown}, but the terms are {sorted(terms)}")
        self.terms = nn.ModuleDict(terms)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in terms}
        self._check_weights()
        self.needs = frozenset().union(*(term.needs for term in terms.values()))
        units = {term.unit for term in terms.values()}
        self.unit = units.pop() if len(units) == 1 else "token"

    def check(self, inputs: LossInputs) -> None:
        """Check the inputs for every term, and the weights, which callbacks may have changed."""
        self._check_weights()
        for _, term in self._named_terms():
            term.check(inputs)

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """Compute the weighted sum of the per-token terms, and each term for the log."""
        values, parts = [], {}
        for name, term in self._named_terms():
            if _is_per_token(term):
                value, extras = split_values(term.per_token_loss(student, teacher, labels))
                values.append(weigh(self.weights[name], value))
                parts |= {name: value} | {f"{name}/{key}": part for key, part in extras.items()}
        return torch.stack(values).sum(0), parts

    def value_and_grad(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[PerTokenValues, Tensor] | None:
        """Compute the same with its gradient in the logits, or None without closed forms."""
        values, grads, parts = [], [], {}
        for name, term in self._named_terms():
            if _is_per_token(term):
                value_and_grad = closed_form(term)
                found = value_and_grad and value_and_grad(student, teacher, labels)
                if found is None:
                    return None
                value, extras = split_values(found[0])
                values.append(weigh(self.weights[name], value))
                grads.append(found[1].mul_(self.weights[name]))
                parts |= {name: value} | {f"{name}/{key}": part for key, part in extras.items()}
        grad = grads[0]
        for each in grads[1:]:
            grad.add_(each)
        return (torch.stack(values).sum(0), parts), grad

    def forward(self, inputs: LossInputs) -> Loss:
        """Evaluate all terms and add them up, with their weights."""
        self.check(inputs)
        losses = self._per_token_losses(inputs)
        for name, term in self._named_terms():
            if not _is_per_token(term) and name not in losses:
                losses[name] = self._converted(name, term(inputs), term.unit, inputs)
        return Loss(
            total=torch.stack([loss.total for loss in losses.values()]).sum(),
            count=next(iter(losses.values())).count,
            parts={key: part for loss in losses.values() for key, part in loss.parts.items()},
        )

    def _per_token_losses(self, inputs: LossInputs) -> dict[str, Loss]:
        """Evaluate the per-token terms, and the first term that can share their logits."""
        per_token = [term for _, term in self._named_terms() if _is_per_token(term)]
        if not per_token:
            return {}
        teacher = inputs.teacher if any("teacher" in term.needs for term in per_token) else None
        options: dict[str, Any] = {
            "value_and_grad": closed_form(self),
            "parameters": tuple(
                p for term in per_token for p in term.parameters() if p.requires_grad
            ),
            "chunked": inputs.chunked,
        }
        rows = (inputs.student, teacher, inputs.class_labels, inputs.mask)
        coupled = None if teacher is None else self._coupled_losses(inputs, teacher, options)
        if coupled is not None:
            return coupled
        return {"": token_sum(self.per_token_loss, *rows, row_group=inputs.row_group, **options)}

    def _coupled_losses(
        self, inputs: LossInputs, teacher: LogitsSource, options: dict[str, Any]
    ) -> dict[str, Loss] | None:
        """Evaluate them with the first term that can share their logits, or return None."""
        if group_size(inputs.row_group) > 1:  # each rank has the logits of a part of the rows
            return None
        positions = prod(inputs.student.shape[:-1])
        if plan(inputs.student, teacher, positions, inputs.chunked)[0] is None:
            return None  # without a look at the valid positions
        for name, term in self._named_terms():
            if not self.weights[name] or is_redefined(term, "row_problems"):
                continue
            problems = term.row_problems(inputs)
            if problems is None:
                continue
            factor = self.weights[name]
            if term.unit != self.unit:
                factor *= sum(problems.sizes) / max(1, len(problems.sizes))
            loss_and_values = coupled_sum(
                self.per_token_loss,
                inputs.student,
                teacher,
                inputs.class_labels,
                inputs.mask,
                problems._replace(factor=factor),
                **options,
            )
            if loss_and_values is not None:
                loss, values = loss_and_values
                alone = self._converted(name, problems.loss(values), term.unit, inputs)
                return {"": loss, name: alone._replace(total=torch.zeros_like(loss.total))}
        return None

    def _converted(self, name: str, loss: Loss, unit: str, inputs: LossInputs) -> Loss:
        """Convert the loss of one term to the unit of the sum, and apply its weight."""
        if unit != self.unit:
            tokens = inputs.valid_count().to(loss.total.device)
            # not a quotient of integers, whose dtype is the default of a run, maybe half precision
            scale = tokens.to(loss.total.dtype) / loss.count.clamp(min=1)
            loss = Loss(loss.total * scale, tokens, {k: v * scale for k, v in loss.parts.items()})
        parts = {name: loss.total.detach()} | {f"{name}/{k}": v for k, v in loss.parts.items()}
        return Loss(weigh(self.weights[name], loss.total), loss.count, parts)

    def _check_weights(self) -> None:
        for name, weight in self.weights.items():
            check_range(f"weights[{name!r}]", weight, 0.0, inf, open_high=True)

    def _named_terms(self) -> Iterator[tuple[str, Objective]]:
        return cast("Iterator[tuple[str, Objective]]", iter(self.terms.items()))


def check_term_name(name: str) -> None:
    """Raise a ValueError for the name of a term that cannot be logged, or is logged anyway.

    Example:
        >>> check_term_name("loss")
        Traceback (most recent call last):
        ValueError: the name of a term is taken, got 'loss'; choose another name in terms
    """
    taken = (
        name in LOGGED or name.endswith(("_seen", "_per_second")) or hasattr(nn.ModuleDict, name)
    )
    if not fullmatch("[A-Za-z0-9_-]+", name) or taken:
        why = "is taken" if taken else "must consist of letters, digits, '_' and '-'"
        raise ValueError(f"the name of a term {why}, got {name!r}; choose another name in terms")


def _is_per_token(term: Objective) -> TypeGuard[TokenObjective]:
    return isinstance(term, TokenObjective) and term.is_per_token
