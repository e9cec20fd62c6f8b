"""DACKL: learned thresholds that do not collapse, other thresholds, and what is logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses import dac_kl, forward_kl
from kdlight.objectives import DACKL, ClippingNetwork, LossInputs
from kdlight.reduce import split_values
from tests.support import toy

ROWS, V = 64, 500


class Training:
    """Trains student and network together on rows with the long tail of language."""

    def __init__(self, objective: DACKL, steps: int, *, student_lr: float) -> None:
        generator = torch.Generator().manual_seed(0)
        zipf = -1.1 * torch.arange(1, V + 1).log()
        self.teacher = torch.stack(
            [zipf[torch.randperm(V, generator=generator)] for _ in range(ROWS)]
        ) + 0.5 * torch.randn(ROWS, V, generator=generator)
        self.student = (self.teacher + torch.randn(ROWS, V, generator=generator)).requires_grad_()
        groups = [
            {"params": [self.student], "lr": student_lr},
            {"params": objective.parameters(), "lr": 1e-2},
        ]
        optimizer = torch.optim.Adam(groups)
        self.log: list[dict[str, float]] = []
        for _ in range(steps):
            loss = objective(LossInputs(self.student, self.teacher))
            self.log.append({name: (part / ROWS).item() for name, part in loss.parts.items()})
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()


def unbounded() -> DACKL:
    network = ClippingNetwork(upper_min=0.0)
    return DACKL(thresholds=network, tail="renorm", coverage_weight=0.0)


def test_the_default_does_not_collapse_where_one_without_bounds_does() -> None:
    torch.manual_seed(0)
    bounded = Training(DACKL(), 250, student_lr=1e-3).log
    torch.manual_seed(0)
    free = Training(unbounded(), 250, student_lr=1e-3).log
    assert bounded[0]["mass"] > 0.93
    assert free[0]["mass"] > 0.93
    assert bounded[-1]["mass"] > 0.85
    assert bounded[-1]["kept"] > 100
    assert bounded[-1]["upper"] != pytest.approx(bounded[0]["upper"], abs=1e-3)  # it did learn
    assert free[-1]["mass"] < 0.5
    assert free[-1]["kept"] < 5


def test_a_student_learns_the_whole_teacher_as_the_log_shows() -> None:
    torch.manual_seed(0)
    log = Training(DACKL(), 250, student_lr=3e-2).log
    assert log[-1]["full_kl"] < log[0]["full_kl"] / 3


def test_each_of_the_two_bounds_is_enough() -> None:
    for thresholds, weight in ((ClippingNetwork(), 0.0), (ClippingNetwork(upper_min=0.0), 10.0)):
        objective = DACKL(thresholds=thresholds, tail="renorm", coverage_weight=weight)
        assert Training(objective, 150, student_lr=1e-3).log[-1]["mass"] > 0.45


def test_thresholds_of_strength_0_and_fixed_ones_are_not_trained(
    student: Tensor, teacher: Tensor
) -> None:
    at_rest = DACKL(strength=0.0)
    at_rest(LossInputs(student, teacher)).total.backward()
    assert all(p.grad is not None and not p.grad.any() for p in at_rest.parameters())
    assert not list(DACKL(thresholds="fixed").parameters())


@pytest.mark.parametrize("gate", ["ste", "soft"])
def test_the_network_learns(gate: Any, student: Tensor, teacher: Tensor) -> None:
    objective = DACKL(gate=gate, coverage_weight=0.0)
    (3 * objective(LossInputs(student, teacher)).total).backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    assert len(gradients) == len(list(objective.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[-1].all()  # the two biases of the last layer


def test_thresholds_from_a_function(student: Tensor, teacher: Tensor) -> None:
    def nucleus(student: Tensor, teacher: Tensor) -> tuple[float, Tensor]:
        return 0.0, teacher.softmax(-1).max(-1).values.clamp(min=0.7)

    loss = DACKL(thresholds=nucleus, temperature=2.0)(LossInputs(student, teacher))
    tops = (teacher / 2).softmax(-1).max(-1).values.clamp(min=0.7)
    expected = dac_kl(student, teacher, lower=0.0, upper=tops, temperature=2.0)
    torch.testing.assert_close(loss.total, 4 * expected.sum())
    torch.testing.assert_close(loss.parts["upper"], tops.sum())


def test_the_log_describes_what_was_kept(student: Tensor, teacher: Tensor) -> None:
    parts = DACKL(thresholds="fixed", upper=0.6)(LossInputs(student, teacher)).parts
    torch.testing.assert_close(parts["full_kl"], forward_kl(student, teacher).sum().detach())
    assert parts["upper"] == pytest.approx(0.6 * 10)
    assert 10 <= parts["kept"] < 70
    assert 0.6 * 10 <= parts["mass"] < 10
    assert parts["coverage"] == 0


def test_the_label_is_kept_by_default(student: Tensor, teacher: Tensor) -> None:
    labels = teacher.argmin(-1)
    with_it, without = (
        DACKL(thresholds="fixed", upper=0.6, include_target=x)(LossInputs(student, teacher, labels))
        for x in (True, False)
    )
    assert with_it.parts["kept"] == without.parts["kept"] + 10


def test_a_fit_trains_the_network_in_a_group_of_its_own_and_saves_it(tmp_path: Path) -> None:
    module = toy.module(DACKL(gate="soft"))
    before = {name: x.clone() for name, x in module.objective.state_dict().items()}
    trainer = toy.trainer(tmp_path, max_steps=3)
    trainer.fit(module, toy.loader(4))
    groups = trainer.optimizers[0].param_groups
    assert [len(group["params"]) for group in groups][1] == len(before) == 6
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=False)["state_dict"]
    names = [name for name in saved if name.startswith("objective.")]
    assert len(names) == 6
    assert any((saved[name] != before[name.removeprefix("objective.")]).any() for name in names)
    logged = trainer.callback_metrics
    parts = ("upper", "lower", "kept", "mass", "coverage", "full_kl")
    assert {f"train/{part}" for part in parts} <= set(logged)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"thresholds": "guessed"}, "thresholds must be .* got 'guessed'"),
        ({"gate": "hard"}, "gate='hard' gives the thresholds no gradient"),
        ({"tail": "none"}, "tail='none' is not a divergence"),
        ({"lower": 0.95}, "lower must be below upper"),
        ({"mass_floor": 2.0}, r"mass_floor must be in \[0.0, 1.0\]"),
        ({"coverage_weight": -1.0}, "coverage_weight must be in"),
        ({"head": 0}, "head must be at least 1"),
        ({"gate": "wide"}, "gate must be one of"),
    ],
)
def test_a_wrong_argument_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DACKL(**wrong)


class OwnFeatures(ClippingNetwork):
    """A network that looks at something else."""

    def features(self, student: Tensor, teacher: Tensor) -> Tensor:
        return super().features(teacher, student)


def nucleus(student: Tensor, teacher: Tensor) -> tuple[float, Tensor]:
    return 0.0, teacher.softmax(-1).amax(-1).clamp(min=0.7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 2.5, "strength": 0.3},
        {"temperature": 2.5, "temperature_squared": False, "include_target": False},
        {"thresholds": "fixed", "upper": 0.6},
        {"thresholds": nucleus},
        {"thresholds": OwnFeatures(top_k=2)},
        {"thresholds": ClippingNetwork(top_k=2, upper=0.7)},
        {"thresholds": ClippingNetwork(top_k=4)},  # of more tokens than are sorted
    ],
)
def test_the_closed_form_is_that_of_autograd(
    options: dict[str, Any], student: Tensor, teacher: Tensor
) -> None:
    torch.manual_seed(0)
    objective = DACKL(**{"head": 2, **options}).double()
    student, teacher = student.detach().flatten(0, 1), teacher.flatten(0, 1)
    parameters = list(objective.parameters())
    for each in parameters:
        torch.nn.init.normal_(each, std=0.3)
    labels = teacher.argmin(-1)
    labels[1] = -100
    results = []
    for is_closed in (True, False):
        leaf = student.clone().requires_grad_()
        if is_closed:
            found = objective.value_and_grad(leaf.detach(), teacher, labels)
            assert found is not None
            (values, parts), grad = split_values(found[0]), found[1]
        else:
            values, parts = split_values(objective.per_token_loss(leaf, teacher, labels))
            (grad,) = torch.autograd.grad(values.sum(), leaf, retain_graph=True)
        own = torch.autograd.grad(values.sum(), parameters) if parameters else ()
        results.append([values.detach(), grad, *own, *(parts[name] for name in sorted(parts))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"rule": "value", "upper": 0.9}, {"tail": "renorm"}, {"gate": "soft"}]
)
def test_other_rules_tails_and_gates_have_no_closed_form(
    options: dict[str, Any], student: Tensor, teacher: Tensor
) -> None:
    assert DACKL(**options).value_and_grad(student.detach(), teacher, None) is None
    assert DACKL(head=None).value_and_grad(student.detach(), teacher, None) is None
