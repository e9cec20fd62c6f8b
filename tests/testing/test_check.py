"""Checking an objective: exceptions, errors, and the table of findings."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from kdlight import losses
from kdlight.objectives import CrossEntropy, ForwardKL, TokenObjective
from kdlight.testing import LAWS, check_objective, examine_objective


class Raises(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        raise RuntimeError("no rows")


class Counting(ForwardKL):
    """Counts its calls, which copies do on their own."""

    calls = 0

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        self.calls += 1
        return losses.forward_kl(student, teacher)


def test_an_objective_that_raises_breaks_the_laws_with_its_error() -> None:
    report = examine_objective(Raises())
    assert len(report.broken) == len(LAWS)
    assert "RuntimeError: no rows" in str(report)


def test_a_table_has_a_line_for_every_law() -> None:
    report = check_objective(ForwardKL())
    assert str(report).count("\nok ") == len(report) == len(LAWS)


def test_exceptions_are_laws_that_are_broken() -> None:
    why = {"zero_at_a_match": "measured against labels"}
    assert [each.law for each in check_objective(CrossEntropy(), except_for=why).broken] == [
        "zero at a match"
    ]
    with pytest.raises(
        AssertionError, match="satisfies laws that except_for lists as broken.*: zero at a match"
    ):
        check_objective(ForwardKL(), except_for=why)
    with pytest.raises(ValueError, match="except_for has unknown laws: zero; the laws are: value"):
        check_objective(ForwardKL(), except_for={"zero": ""})


def test_the_objective_itself_is_not_called() -> None:
    objective = Counting()
    examine_objective(objective)
    assert objective.calls == 0


# ---- schedules


def test_laws_are_independent_of_their_order() -> None:
    """Each law gets a copy and a sample of its own."""
    first, second = examine_objective(ForwardKL()), examine_objective(ForwardKL())
    assert first == second
