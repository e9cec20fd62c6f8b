"""Every objective brings a toy student nearer to its teacher in a loop of PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdlight import losses
from kdlight.objectives import OBJECTIVES, TAID, LossInputs, build_objective
from kdlight.schedules import Linear
from tests.objectives.features.samples import FEATURES, build_with_pairs, feature_fields
from tests.objectives.test_laws import ELSEWHERE

STEPS, ROWS, WIDTH, CLASSES = 100, 64, 8, 12


def network(hidden: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(WIDTH, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES, bias=False)
        )


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    wide = network(hidden=64, seed=1)
    with torch.no_grad():
        wide[-1].weight.mul_(4)  # type: ignore[index]  # a confident teacher
    return wide.requires_grad_(False)


def held_out(student: nn.Module, teacher: nn.Module) -> float:
    x = torch.randn(512, WIDTH, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        return losses.forward_kl(student(x), teacher(x)).mean().item()


def fit(name: str, teacher: nn.Module, seed: int) -> tuple[float, float]:
    """Held-out forward KL of a small student before and after some steps of plain torch."""
    student, objective = network(hidden=16, seed=0), build_objective(name)
    optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=1e-2)
    generator = torch.Generator().manual_seed(seed)
    t, before = Linear(0.4, 1.0), held_out(student, teacher)
    for step in range(STEPS):
        if isinstance(objective, TAID):
            objective.t = t(step, STEPS)
        x = torch.randn(ROWS, WIDTH, generator=generator)
        logits: Tensor = teacher(x)
        labels = torch.distributions.Categorical(logits=logits).sample()
        optimizer.zero_grad()
        objective(LossInputs(student(x), logits, labels)).mean().backward()
        optimizer.step()
    return before, held_out(student, teacher)


# do not depend on which entry has a probability, for teachers with another vocabulary, see
# tests/data/test_two_tokenizers.py
RANKED = {"multi_level_ot", "uld"}


# objectives on chosen and rejected sequences are tested in tests/studies/redi.py
@pytest.mark.parametrize(
    "name", [name for name in OBJECTIVES if name not in {*ELSEWHERE, *RANKED, *FEATURES}]
)
def test_every_objective_brings_the_student_nearer_to_the_teacher(
    name: str, teacher: nn.Module
) -> None:
    before, after = fit(name, teacher, seed=5)
    assert after < 0.25 * before


def test_the_same_seed_gives_the_same_student(teacher: nn.Module) -> None:
    assert fit("forward_kl", teacher, seed=5) == fit("forward_kl", teacher, seed=5)
    assert fit("forward_kl", teacher, seed=5) != fit("forward_kl", teacher, seed=6)


# the feature of a sample: a sequence of tokens for relations of tokens, else a map
SHAPES = {"attention_relation": (3, 12), "hidden_states": (3, 12)}


def features(x: Tensor, network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    return network(x).unflatten(-1, shape)


def fit_features(name: str) -> tuple[float, float]:
    """The objective on held-out samples before and after some steps."""
    shape = SHAPES.get(name, (4, 3, 3))
    size = torch.Size(shape).numel()
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(WIDTH, 24), nn.Tanh(), nn.Linear(24, size))
    teacher = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, size))
    objective = build_with_pairs(OBJECTIVES[name])
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)

    def loss(x: Tensor) -> Tensor:
        with torch.no_grad():
            theirs = features(x, teacher, shape)
        fields = feature_fields(features(x, student, shape), theirs)
        logits = torch.zeros(len(x), 2)
        return objective(LossInputs(logits, logits, **fields)).mean()

    held_out = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        before = loss(held_out).item()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(torch.randn(ROWS, WIDTH)).backward()
        optimizer.step()
    with torch.no_grad():
        return before, loss(held_out).item()


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_every_objective_on_features_brings_them_nearer(name: str) -> None:
    before, after = fit_features(name)
    assert after < 0.25 * before
