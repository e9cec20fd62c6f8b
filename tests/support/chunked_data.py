"""Hidden states, heads and objectives, evaluated in chunks and at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kdlight import Chunking, Projected
from kdlight.objectives import (
    OBJECTIVES,
    CrossEntropy,
    LearnableTemperature,
    LossInputs,
    Objective,
    ReverseKL,
    TokenObjective,
    Weighted,
    build_objective,
)

N, D, E, V = 13, 4, 6, 17  # positions, widths of student and teacher, vocabulary
SIZES = [Chunking(5, 2), Chunking(1, 1), Chunking(100, 100), Chunking(4, 3)]
TOKEN_OBJECTIVES = {
    name: kind for name, kind in OBJECTIVES.items() if issubclass(kind, TokenObjective)
}


OBJECTIVE_FACTORIES: dict[str, Callable[[], Objective]] = {
    **{name: lambda name=name: build_objective(name) for name in TOKEN_OBJECTIVES},
    "mixture": lambda: Weighted(
        {"kd": ReverseKL(temperature=2.0), "ce": CrossEntropy(), "ctkd": LearnableTemperature()},
        weights={"ce": 0.3, "ctkd": 0.5},
    ),
}


class ProjectedData:
    """Hidden states, heads, labels and a mask; positions ``(N,)``."""

    def __init__(self, dtype: torch.dtype = torch.float64, *, bias: bool = True) -> None:
        generator = torch.Generator().manual_seed(3)

        def tensor(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.hidden, self.teacher_hidden = tensor(N, D).requires_grad_(), tensor(N, E)
        self.head, self.teacher_head = nn.Linear(D, V, bias=bias), nn.Linear(E, V, bias=bias)
        for head in (self.head, self.teacher_head):
            head.to(dtype)
            for parameter in head.parameters():
                parameter.data = tensor(*parameter.shape)
        self.teacher_head.requires_grad_(False)
        self.parameters = list(self.head.parameters())
        self.labels = torch.randint(V, (N,), generator=generator)
        self.mask = torch.rand(N, generator=generator) < 0.7
        self.student = Projected(self.hidden, self.head)
        self.teacher = Projected(self.teacher_hidden, self.teacher_head)

    @property
    def leaves(self) -> list[Tensor]:
        return [x for x in (self.hidden, *self.parameters) if x.requires_grad]

    def inputs(self, chunked: Any, **changed: Any) -> LossInputs:
        fields: dict[str, Any] = {
            "student": self.student,
            "teacher": self.teacher,
            "labels": self.labels,
            "mask": self.mask,
        }
        return LossInputs(**{**fields, **changed}, chunked=chunked)

    def evaluate(self, objective: Objective, chunked: Any, **changed: Any) -> list[Tensor]:
        """Return value, count, parts and gradients, for an upstream gradient that is not 1."""
        loss = objective(self.inputs(chunked, **changed))
        leaves = [*self.leaves, *(p for p in objective.parameters() if p.requires_grad)]
        gradients = torch.autograd.grad(3.0 * loss.total, leaves, allow_unused=True)
        named = [loss.parts[name] for name in sorted(loss.parts)]
        return [loss.total.detach(), loss.count, *named, *(g for g in gradients if g is not None)]


def assert_all_close(actual: list[Tensor], expected: list[Tensor], rtol: float = 1e-10) -> None:
    """Compare tensors one by one, each relative to its largest entry."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        scale = other.double().abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * max(scale, 1e-30))
