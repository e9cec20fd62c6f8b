"""RoutedKD: its value and gradients, in chunks and with masks, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Chunking
from kdlight.objectives import (
    CrossEntropy,
    ForwardKL,
    LossInputs,
    ReverseKL,
    RoutedKD,
    Weighted,
)
from kdlight.objectives.fusion.load_balance import BALANCE
from kdlight.sources import Dense, Mixture, Projected

NAMES = ("a", "b", "c")
DOUBLE: Any = {"rtol": 1e-10, "atol": 1e-10}


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def teachers(*shape: int, names: tuple[str, ...] = NAMES) -> Mixture:
    sources = tuple(Dense(2 * randn(*shape, seed=10 + ord(name))) for name in names)
    return Mixture(sources, (1 / len(names),) * len(names), names)


class Sequences:
    """Sequences of a student with a head, whose gate reads their hidden states."""

    def __init__(self) -> None:
        self.hidden = randn(4, 5, 6, seed=1).requires_grad_()
        self.head = nn.Linear(6, 9).double()
        self.mask = torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.6
        self.mask[2] = False  # a sequence without a valid position

    def inputs(self, chunked: Any = False) -> LossInputs:
        return LossInputs(
            Projected(self.hidden, self.head),
            teachers(4, 5, 9),
            mask=self.mask,
            student_features={"h": self.hidden},
            chunked=chunked,
        )

    def leaves(self, objective: RoutedKD) -> list[Tensor]:
        return [self.hidden, *self.head.parameters(), *objective.gate.parameters()]


def made(**options: Any) -> RoutedKD:
    torch.manual_seed(0)
    return RoutedKD(NAMES, **options).double()


def by_formula(data: Sequences, objective: RoutedKD) -> Tensor:
    """The loss of `Sequences`, sequence by sequence."""
    network: Any = objective.gate.network
    total, log_weights = torch.zeros((), dtype=torch.float64), []
    for row, mask in enumerate(data.mask):
        if not mask.any():
            continue
        states = data.hidden[row][mask]
        log_w = network(states.mean(0)).log_softmax(-1)
        log_weights.append(log_w)
        weights = log_w.exp()
        if objective.routing == "top_k":
            best = log_w.topk(objective.k).indices.tolist()
            weights = torch.tensor([(k in best) / objective.k for k in range(3)])
        log_q = (data.head(states) / 4).log_softmax(-1)
        for k, name in enumerate(NAMES):
            source: Any = teachers(4, 5, 9).parts[name]
            p = (source.tensor[row][mask] / 4).softmax(-1)
            total = total + weights[k] * 16 * (p * (p.log() - log_q)).sum()
    total = objective.distillation_weight * total
    if objective.balance is not None:
        balance = BALANCE[objective.balance](torch.stack(log_weights))
        total = total + objective.balance_weight * data.mask.sum() * balance
    return total


@pytest.mark.parametrize("chunked", [False, True, Chunking(tokens=4, block=3)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"balance": "cv", "balance_weight": 0.5, "distillation_weight": 2.0},
        {"balance": None},
        {"routing": "top_k", "k": 2},
    ],
    ids=str,
)
def test_value_and_gradients_are_those_of_the_formula(options: Any, chunked: Any) -> None:
    data, objective = Sequences(), made(gate_input="h", gate_size=6, **options)
    loss = objective(data.inputs(chunked))
    expected = by_formula(data, objective)
    torch.testing.assert_close(loss.total, expected, **DOUBLE)
    assert loss.count == data.mask.sum()
    leaves = data.leaves(objective)
    found = torch.autograd.grad(loss.total, leaves)
    for one, other in zip(found, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, other, **DOUBLE)


def test_the_gradient_of_the_gate_is_the_slope() -> None:
    rows, teacher = randn(3, 4), teachers(3, 4)
    objective = made(gate_size=4)
    names = [name for name, _ in objective.named_parameters()]

    def total(student: Tensor, *parameters: Tensor) -> Tensor:
        replaced = dict(zip(names, parameters, strict=True))
        inputs = LossInputs(student, teacher)
        return torch.func.functional_call(objective, replaced, (inputs,)).total

    given = [p.detach().requires_grad_() for p in objective.parameters()]
    assert torch.autograd.gradcheck(total, (rows.requires_grad_(), *given))


@pytest.mark.parametrize("routing", ["weighted", "top_k"])
def test_distillation_trains_a_weighted_gate_only(routing: Any) -> None:
    objective = made(gate_size=4, routing=routing, balance_weight=0.0)
    objective(LossInputs(randn(5, 4), teachers(5, 4))).total.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    assert len(gradients) == 4
    assert all(bool(each.any()) == (routing == "weighted") for each in gradients)


def test_the_log_has_each_teacher() -> None:
    student, teacher = randn(5, 4), teachers(5, 4)
    mask = torch.tensor([True, False, True, True, True])
    objective = made(gate_size=4, routing="top_k", k=2)
    loss = objective(LossInputs(student, teacher, mask=mask))
    shares = [loss.parts[f"share/{name}"] for name in NAMES]
    torch.testing.assert_close(sum(shares), torch.tensor(4.0, dtype=torch.float64))
    chosen = objective.gate(LossInputs(student[mask])).topk(2, -1).indices
    for k, name in enumerate(NAMES):
        assert loss.parts[f"share/{name}"] == (chosen == k).sum() / 2
        source = teacher.parts[name].select(mask.nonzero()[:, 0])
        kl = ForwardKL(temperature=4.0)(LossInputs(student[mask], source))
        torch.testing.assert_close(loss.parts[f"kl/{name}"], kl.total)
    assert not any(part.requires_grad for part in loss.parts.values())
    total = loss.parts["distillation"] + loss.parts["balance"]
    torch.testing.assert_close(loss.total, total)


def test_columns_of_the_gate_belong_to_names_and_not_to_places() -> None:
    student, teacher = randn(5, 4), teachers(5, 4)
    turned = teachers(5, 4, names=NAMES[::-1])
    objective = made(gate_size=4)
    one, other = (objective(LossInputs(student, each)) for each in (teacher, turned))
    torch.testing.assert_close(one.total, other.total)


def test_a_batch_without_valid_positions_has_a_graph() -> None:
    data, objective = Sequences(), made(gate_input="h", gate_size=6)
    data.mask[:] = False
    loss = objective(data.inputs())
    assert (loss.total, loss.count) == (0, 0)
    loss.total.backward()
    assert all(p.grad is not None and not p.grad.any() for p in objective.parameters())


def test_a_teacher_that_is_not_chosen_may_be_infinitely_far() -> None:
    student = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    sources = (Dense(torch.zeros(2, 3).double()), Dense(torch.tensor([[0.0, 0, -torch.inf]] * 2)))
    objective = RoutedKD(
        ["near", "far"], divergence=ReverseKL(), routing="top_k", gate_size=3
    ).double()
    network: Any = objective.gate.network
    with torch.no_grad():
        network.output.bias.copy_(torch.tensor([50.0, -50.0]))
    loss = objective(LossInputs(student, Mixture(sources, (0.5, 0.5), ("near", "far"))))
    assert loss.parts["kl/far"].isinf()
    assert loss.parts["distillation"] == 0
    loss.total.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


class Clusters:
    """Four clusters of samples, each with one right teacher; the others guess."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        centers = 3 * torch.randn(4, 8)
        self.cluster = torch.arange(128) % 4
        self.x = centers[self.cluster] + torch.randn(128, 8)
        self.labels = nn.Linear(8, 6)(self.x - centers[self.cluster]).argmax(-1)
        answers = [
            torch.where(self.cluster == k, self.labels, torch.randint(6, (128,))) for k in range(4)
        ]
        sources = tuple(Dense(6.0 * nn.functional.one_hot(each, 6)) for each in answers)
        self.teacher = Mixture(sources, (0.25,) * 4, tuple("abcd"))

    def right_choices(self, steps: int) -> float:
        student = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 6))
        routed = RoutedKD(["a", "b", "c", "d"], gate_input="x", gate_size=8)
        objective = Weighted({"kd": routed, "ce": CrossEntropy()})
        optimizer = torch.optim.Adam([*student.parameters(), *objective.parameters()], lr=1e-2)
        for _ in range(steps):
            features = {"x": self.x}
            inputs = LossInputs(
                student(self.x), self.teacher, self.labels, student_features=features
            )
            optimizer.zero_grad()
            objective(inputs).mean().backward()
            optimizer.step()
        return (routed.gate(inputs).argmax(-1) == self.cluster).double().mean().item()


@pytest.mark.slow
def test_a_gate_on_input_features_finds_the_right_teacher() -> None:
    assert Clusters(0).right_choices(steps=1) < 0.6  # before it has learned
    assert Clusters(0).right_choices(steps=300) > 0.9


REFUSED: dict[str, tuple[dict[str, Any], type, str]] = {
    "k": ({"k": 4, "routing": "top_k"}, ValueError, "k must be at most 3, .* got 4"),
    "k below 1": ({"k": 0, "routing": "top_k"}, ValueError, "k must be .* got 0"),
    "k of all": ({"k": 2}, ValueError, "k=2 selects teachers, but routing='weighted'"),
    "routing": ({"routing": "hard"}, ValueError, "routing must be one of .* got 'hard'"),
    "balance": ({"balance": "var"}, ValueError, "balance must be one of .* got 'var'"),
    "idle gate": ({"routing": "top_k", "balance": None}, ValueError, "would not learn; set bal"),
    "weight": ({"balance_weight": -1.0}, ValueError, "balance_weight must be in .* got -1.0"),
    "divergence": ({"divergence": CrossEntropy()}, TypeError, "divergence must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_are_checked(name: str) -> None:
    options, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        RoutedKD(NAMES, **options)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a"], ValueError, r"two different names or more, got \['a'\]"),
        (["a", "a"], ValueError, "two different names"),
        ("ab", TypeError, "names of teachers, as in .* got 'ab'"),
        ([1, 2], TypeError, "names of teachers"),
    ],
)
def test_names_are_checked(names: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        RoutedKD(names)


def test_inputs_without_these_teachers_are_refused() -> None:
    student, objective = torch.zeros(2, 4), RoutedKD(["a", "b"], gate_size=4)
    with pytest.raises(ValueError, match="RoutedKD needs a teacher, but the inputs have none"):
        objective(LossInputs(student))
    with pytest.raises(ValueError, match="several teachers apart, .*TeacherEnsemble, which is in"):
        objective(LossInputs(student, student))
    with pytest.raises(ValueError, match=r"in the ensemble, \['a', 'b', 'c'\], got \['a', 'b'\]"):
        objective(LossInputs(student, teachers(2, 4)))
    with pytest.raises(ValueError, match="vocabularies differ: 5 and 4 entries"):
        objective(LossInputs(student, teachers(2, 5, names=("a", "b"))))


def test_weights_that_a_callback_changed_are_checked() -> None:
    objective = RoutedKD(["a", "b"], gate_size=4)
    objective.distillation_weight = -0.5
    with pytest.raises(ValueError, match="distillation_weight must be in"):
        objective(LossInputs(torch.zeros(2, 4), teachers(2, 4, names=("a", "b"))))
