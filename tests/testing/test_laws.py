"""Each law can fail: an objective that breaks it is found, by the name of the law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives import ForwardKL, Loss, TokenObjective
from kdlight.testing import LAWS, Sample, check_objective, examine_objective, worst
from kdlight.testing.laws import compared, gradient


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


class ReadsIndices(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        indices = torch.arange(student.shape[-1], dtype=student.dtype)
        return ((student.softmax(-1) - teacher.softmax(-1)) @ indices).square()


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
    def forward(self, inputs: Any) -> Any:
        loss = super().forward(inputs)
        return loss._replace(total=loss.total.to(inputs.student.logits().dtype))


class Padded(TokenObjective):
    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return kl(student, teacher) / student.shape[-1]


class Unmasked(TokenObjective):
    def forward(self, inputs: Any) -> Any:
        loss = super().forward(inputs)
        total = kl(inputs.student.logits(), inputs.teacher.logits()).sum()
        return loss._replace(total=total)


class PlainTorch(TokenObjective):
    """Written in plain torch: the driver handles half precision."""

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)


BROKEN: dict[type[TokenObjective], set[str]] = {
    NotShiftInvariant: {"a constant added to a row of logits changes nothing"},
    BatchStatistics: {
        "rows add up however the work is split",
        "hidden states and a head give what their logits give",
    },
    OnlyCrossEntropy: {"zero at a match"},
    ReadsIndices: {"the order of the vocabulary does not matter"},
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
def test_a_broken_objective_is_found_by_its_law(kind: type[TokenObjective], laws: set[str]) -> None:
    broken = {finding.law for finding in examine_objective(kind()).broken}
    assert laws <= broken
    with pytest.raises(
        AssertionError, match=f"^{kind.__name__} breaks {len(broken)} of {len(LAWS)}"
    ):
        check_objective(kind())


def test_every_law_is_broken_by_something() -> None:
    """Except for those on checkpoints and on the default dtype, see test_state_laws.py."""
    broken = set().union(*BROKEN.values())
    satisfied = {name.replace("_", " ") for name in LAWS} - broken
    assert satisfied == {
        "state dict brings back what is not a hyper parameter",
        "the default dtype of a run does not matter",
    }


def test_an_objective_in_plain_torch_satisfies_every_law() -> None:
    assert check_objective(PlainTorch()).broken == []


def test_losses_are_compared_by_value_and_gradient() -> None:
    sample = Sample.draw()
    one, other = ForwardKL()(sample.inputs()), PlainTorch()(sample.inputs())
    assert worst(compared(one, one, sample.student)).excess == 0
    assert worst(compared(one, other, sample.student)).excess > 1
    same_value = Loss(2 * one.total - one.total.detach(), one.count)
    assert worst(compared(same_value, one, sample.student)).what == "gradient"
    torch.testing.assert_close(
        gradient(same_value, sample.student), 2 * gradient(one, sample.student)
    )
