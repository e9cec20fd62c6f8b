"""The laws about state can fail: state that changes, that is not copied, or not saved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.objectives import ForwardKL, Weighted
from kdlight.testing import examine_objective

CHECKPOINTS = "state dict brings back what is not a hyper parameter"
COPIES = "copies and pickles are the same objective"
FORWARD = "forward changes no state"


DEFAULT = "the default dtype of a run does not matter"


def broken(objective: Any) -> set[str]:
    return {finding.law for finding in examine_objective(objective).broken}


class Scaled(ForwardKL):
    """Has a parameter that scales the loss; what is saved is its value, or always 2."""

    def __init__(self, *, is_saved: bool) -> None:
        super().__init__()
        self.is_saved = is_saved
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        return self.scale * super().divergence(student, teacher, labels)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state = super().state_dict(*args, **kwargs)
        return state if self.is_saved else {"scale": torch.tensor(2.0, dtype=torch.float64)}


class WithBuffer(ForwardKL):
    """Changes a buffer in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: Any) -> Any:
        self.get_buffer("calls").add_(1)
        return super().forward(inputs)


class Mixture(Weighted):
    """Changes a weight in its forward pass."""

    def forward(self, inputs: Any) -> Any:
        self.weights["kd"] *= 0.5
        return super().forward(inputs)


class Nameless(ForwardKL):
    """Has a function that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.hook = lambda values: values


def test_a_parameter_is_restored_from_its_checkpoint() -> None:
    assert CHECKPOINTS not in broken(Scaled(is_saved=True))
    assert CHECKPOINTS in broken(Scaled(is_saved=False))


def test_forward_must_not_change_a_buffer() -> None:
    assert FORWARD in broken(WithBuffer())


def test_forward_must_not_change_a_scalar_of_a_dict() -> None:
    assert FORWARD in broken(Mixture({"kd": ForwardKL()}))
    assert FORWARD not in broken(Weighted({"kd": ForwardKL()}))


def test_what_cannot_be_pickled_is_found() -> None:
    report = examine_objective(Nameless())
    assert {finding.law for finding in report.broken} == {COPIES}
    assert "pickle" in str(report)


def test_a_quotient_of_integers_depends_on_the_default_dtype() -> None:
    class Halved(ForwardKL):
        def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
            share = torch.tensor(1) / torch.tensor(3)
            return share * super().divergence(student, teacher, labels)

    assert DEFAULT in broken(Halved())
    assert DEFAULT not in broken(ForwardKL())
