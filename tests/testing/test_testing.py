"""The laws can fail: what is broken is found by the law that should find it, and by its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives import CrossEntropy, ForwardKL, TokenObjective
from kdlight.schedules import Linear, Schedule
from kdlight.testing import (
    LAWS,
    SCHEDULE_LAWS,
    check_objective,
    check_schedule,
    examine_objective,
)


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    return losses.forward_kl(student, teacher)


class NotShiftInvariant(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return (student - teacher).square().mean(-1)


class BatchStatistics(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return kl(student / student.std(0).mean().clamp(min=0.1), teacher)


class OnlyCrossEntropy(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)


class LooksAtPlaces(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        places = torch.arange(student.shape[-1], dtype=student.dtype)
        return ((student.softmax(-1) - teacher.softmax(-1)) @ places).square()


class Probabilities(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        p = teacher.softmax(-1)
        return (p * (p.log() - student.log_softmax(-1))).sum(-1)


class Signed(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return (student.softmax(-1) - teacher.softmax(-1))[:, 0]


class Detached(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        value = kl(student, teacher)
        return value * value.detach()


class Forgetful(TokenObjective):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        self.calls += 1
        return kl(student, teacher) * self.calls


class Narrow(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return kl(student.bfloat16(), teacher.bfloat16()).to(torch.float32)


class StaysHalf(ForwardKL):
    def forward(self, step: Any) -> Any:
        loss = super().forward(step)
        return loss._replace(total=loss.total.to(step.student.logits().dtype))


class Padded(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return kl(student, teacher) / student.shape[-1]


class Unmasked(TokenObjective):
    def forward(self, step: Any) -> Any:
        loss = super().forward(step)
        whole = kl(step.student.logits(), step.teacher.logits()).sum()
        return loss._replace(total=whole)


class Raises(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        raise RuntimeError("no rows today")


class Plainly(TokenObjective):
    """Written in torch alone: what it does not say of half precision, the driver does."""

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)


BROKEN: dict[type[TokenObjective], set[str]] = {
    NotShiftInvariant: {"a constant added to a row of logits changes nothing"},
    BatchStatistics: {
        "rows add up however the work is split",
        "hidden states and a head give what their logits give",
    },
    OnlyCrossEntropy: {"zero at a match"},
    LooksAtPlaces: {"the order of the vocabulary does not matter"},
    Probabilities: {"columns at minus infinity on both sides are outside the vocabulary"},
    Signed: {"never negative", "zero at a match"},
    Detached: {"gradient is the slope"},
    Forgetful: {"forward changes no state", "copies and pickles are the same objective"},
    Narrow: {"value is one finite number over all positions"},
    StaysHalf: {"half precision is widened first"},
    Padded: {"columns at minus infinity on both sides are outside the vocabulary"},
    Unmasked: {
        "masking is removing",
        "what stands at ignored positions does not leak",
        "no position at all is zero with a graph",
    },
}


@pytest.mark.parametrize(
    ("kind", "laws"), BROKEN.items(), ids=lambda each: getattr(each, "__name__", "")
)
def test_what_is_broken_is_found_by_its_law(kind: type[TokenObjective], laws: set[str]) -> None:
    broken = {finding.law for finding in examine_objective(kind()).broken}
    assert laws <= broken
    with pytest.raises(
        AssertionError, match=f"^{kind.__name__} breaks {len(broken)} of {len(LAWS)}"
    ):
        check_objective(kind())


def test_every_law_is_broken_by_something() -> None:
    """But for the one on checkpoints, which is about parameters."""
    found = set().union(*BROKEN.values())
    kept = {name.replace("_", " ") for name in LAWS} - found
    assert kept == {"state dict brings back what is not a hyper parameter"}


def test_an_objective_in_plain_torch_keeps_every_law() -> None:
    assert check_objective(Plainly()).broken == []


def test_an_objective_that_raises_breaks_the_laws_with_its_error() -> None:
    report = examine_objective(Raises())
    assert len(report.broken) == len(LAWS)
    assert "RuntimeError: no rows today" in str(report)


def test_a_table_has_a_line_for_every_law() -> None:
    report = check_objective(ForwardKL())
    assert str(report).count("\nok ") == len(report) == len(LAWS)


def test_exceptions_need_a_law_and_have_to_be_ones() -> None:
    why = {"zero_at_a_match": "measured against labels"}
    assert [each.law for each in check_objective(CrossEntropy(), except_for=why).broken] == [
        "zero at a match"
    ]
    with pytest.raises(
        AssertionError, match="keeps what except_for says it breaks: zero at a match"
    ):
        check_objective(ForwardKL(), except_for=why)
    with pytest.raises(ValueError, match="except_for names no law: zero; the laws are: value is"):
        check_objective(ForwardKL(), except_for={"zero": ""})


def test_an_objective_is_not_changed_by_being_asked() -> None:
    objective = Forgetful()
    examine_objective(objective)
    assert objective.calls == 0


# ---- schedules


class Counting(Schedule):
    """Keeps its own count, and so knows nothing of a resume."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int, total: float = float("inf")) -> float:
        self.calls += 1
        return float(self.calls)


class Divides(Schedule):
    def __call__(self, step: int, total: float = float("inf")) -> float:
        return 1 / step


@pytest.mark.parametrize(
    ("schedule", "broken"),
    [
        (
            Counting(),
            {"the order of questions does not matter", "it is known again by its repr"},
        ),
        (Divides(), {"a finite number at every step"}),
    ],
)
def test_a_broken_schedule_is_found(schedule: Schedule, broken: set[str]) -> None:
    with pytest.raises(AssertionError, match=f"of {len(SCHEDULE_LAWS)} laws") as error:
        check_schedule(schedule)
    assert all(name in str(error.value) for name in broken)


def test_a_schedule_of_ours_keeps_the_laws() -> None:
    assert check_schedule(Linear(4.0, 1.0)).broken == []
