"""Vectors of MST-Distill's published code: what is equal, and where kdlight differs on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from kdlight import Learner, OnlineDistillationModule
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs, RoutedKD, Weighted
from kdlight.objectives.fusion.gate_network import GateNetwork
from kdlight.sources import Dense, Mixture

FOLDER = Path(__file__).parents[1] / "conformance" / "mst_distill"
ROUTED = ("top1_KL", "top2_CV", "weighted_KL")
EXACT: Any = {"rtol": 1e-9, "atol": 1e-12}
ROUTINGS: Any = {"topk": "top_k", "weighted": "weighted"}
BALANCES: Any = {"KL": "kl", "CV": "cv"}


class Vector:
    """One file: its tensors, its hyper-parameters, and a RoutedKD with its gate."""

    def __init__(self, name: str) -> None:
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            self.tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.numbers = json.loads(file.metadata()["meta"])["hparams"]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def gate(self) -> GateNetwork:
        wide, size = self["gate.fc1.weight"].shape
        gate = GateNetwork(size, len(self["teacher_logits"])).double()
        assert gate.hidden.out_features == wide
        names = {"hidden": "fc1", "output": "fc2"}
        gate.load_state_dict(
            {
                f"{ours}.{kind}": self[f"gate.{theirs}.{kind}"]
                for ours, theirs in names.items()
                for kind in ("weight", "bias")
            }
        )
        return gate

    def objective(self, **options: Any) -> RoutedKD:
        numbers = self.numbers
        assert [numbers[name] for name in ("w_task", "w_kl", "w_lb")] == [1.0, 1.0, 1.0]
        return RoutedKD(
            [f"t{k}" for k in range(len(self["teacher_logits"]))],
            **{
                "divergence": ForwardKL(temperature=numbers["T"]),
                "routing": ROUTINGS[numbers["mode"]],
                "balance": BALANCES[numbers["lb_mode"]],
                "k": numbers["k"],
                "gate": self.gate(),
                **options,
            },
        )

    def inputs(self) -> LossInputs:
        sources = tuple(Dense(each) for each in self["teacher_logits"])
        names = tuple(f"t{k}" for k in range(len(sources)))
        teacher = Mixture(sources, (1 / len(sources),) * len(sources), names)
        student = self["student_logits"].clone().requires_grad_()
        return LossInputs(student, teacher, self["labels"])

    def check_gradients(self, inputs: LossInputs, objective: RoutedKD) -> None:
        gate = objective.gate.network
        assert isinstance(gate, GateNetwork)
        student = inputs.student.logits()
        torch.testing.assert_close(student.grad, self["expected_grad"], **EXACT)
        for ours, theirs in (("hidden", "fc1"), ("output", "fc2")):
            for kind in ("weight", "bias"):
                expected = self[f"expected_gate_grad.{theirs}.{kind}"]
                found = getattr(getattr(gate, ours), kind).grad
                torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("name", ROUTED)
def test_probabilities_choice_and_balance_of_the_gate(name: str) -> None:
    vector = Vector(name)
    objective, inputs = vector.objective(), vector.inputs()
    log_weights = objective.gate(inputs)
    torch.testing.assert_close(log_weights.exp(), vector["expected_gate_probs"], **EXACT)
    k = vector["expected_topk_index"].shape[1]
    assert torch.equal(log_weights.topk(k, -1).indices, vector["expected_topk_index"])
    parts = objective(inputs).parts
    rows = len(vector["labels"])
    torch.testing.assert_close(parts["balance"] / rows, vector["expected_lb"], **EXACT)


@pytest.mark.parametrize("name", ROUTED[:2])
def test_value_and_gradients_of_the_published_routing(name: str) -> None:
    vector = Vector(name)
    objective, inputs = vector.objective(), vector.inputs()
    loss = objective(inputs)
    torch.testing.assert_close(
        loss.parts["distillation"] / loss.count, vector["expected_kd"], **EXACT
    )
    task = CrossEntropy()(inputs).mean()
    torch.testing.assert_close(task, vector["expected_task"], **EXACT)
    total = loss.mean() + task
    torch.testing.assert_close(total, vector["expected_loss"], **EXACT)
    total.backward()
    vector.check_gradients(inputs, objective)


def published_mixture(vector: Vector) -> LossInputs:
    """The teacher of the published weighted form: logits mixed by the gate, detached."""
    weights = vector["expected_gate_probs"].T.unsqueeze(-1)
    mixed = (weights * vector["teacher_logits"]).sum(0)
    return LossInputs(vector["student_logits"].clone().requires_grad_(), mixed)


def test_the_published_weighted_form_mixes_logits_without_a_gradient() -> None:
    """Re-enacted from its mixture, beside our gate and balance."""
    vector = Vector("weighted_KL")
    objective, inputs = vector.objective(distillation_weight=0.0), vector.inputs()
    mixture = published_mixture(vector)
    kd = ForwardKL(temperature=vector.numbers["T"])(
        LossInputs(inputs.student, mixture.teacher, vector["labels"])
    ).mean()
    torch.testing.assert_close(kd, vector["expected_kd"], **EXACT)
    total = kd + objective(inputs).mean() + CrossEntropy()(inputs).mean()
    torch.testing.assert_close(total, vector["expected_loss"], **EXACT)
    total.backward()
    vector.check_gradients(inputs, objective)


def test_ours_weighs_the_losses_and_trains_the_gate() -> None:
    vector = Vector("weighted_KL")
    without = {"balance": None}
    objective, inputs = vector.objective(**without), vector.inputs()
    loss = objective(inputs)
    per_teacher = torch.stack(
        [
            16 * (ps * (ps.log() - (inputs.student.logits() / 4).log_softmax(-1))).sum(-1)
            for ps in (vector["teacher_logits"] / 4).softmax(-1)
        ],
        -1,
    )
    expected = (vector["expected_gate_probs"] * per_teacher).sum(-1).mean()
    torch.testing.assert_close(loss.mean(), expected, **EXACT)
    assert (loss.mean() - vector["expected_kd"]).abs() > 1
    loss.mean().backward()
    gate = objective.gate.network
    assert isinstance(gate, GateNetwork)
    assert all(p.grad is not None and p.grad.abs().max() > 1e-3 for p in gate.parameters())


class Fixed(nn.Module):
    """A network whose logits are its parameter."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, batch: Any) -> Tensor:
        return self.logits


def mutual(vector: Vector) -> tuple[OnlineDistillationModule, dict[str, Any]]:
    """Stage 1 by kdlight: every network on its labels and on the others."""
    temperature = vector.numbers["T"]
    learners = {
        name: Learner(
            Fixed(vector[f"logits_{name}"]),
            # a mean over two others, where the vector has their sum
            Weighted({"ce": CrossEntropy(), "kd": ForwardKL(temperature=temperature)}, {"kd": 2.0}),
        )
        for name in ("student", "teacher", "aux")
    }
    module = OnlineDistillationModule(learners, labels="aligned")
    return module, {"labels": vector["labels"]}


def test_stage_1_has_the_published_value_with_the_sum_over_others_as_a_weight() -> None:
    vector = Vector("stage1_mutual")
    module, batch = mutual(vector)
    total = torch.stack([loss.mean() for loss, _ in module.learner_losses(batch).values()]).sum()
    torch.testing.assert_close(total, vector["expected_loss"], **EXACT)


def test_stage_1_differs_in_that_its_targets_are_constants() -> None:
    """The gradient is the published one without what goes through the targets."""
    vector = Vector("stage1_mutual")
    module, batch = mutual(vector)
    torch.stack([loss.mean() for loss, _ in module.learner_losses(batch).values()]).sum().backward()
    temperature, labels = vector.numbers["T"], vector["labels"]
    names = ("student", "teacher", "aux")
    for own in names:
        logits = {name: vector[f"logits_{name}"].clone() for name in names}
        logits[own].requires_grad_()
        log_q = {name: (each / temperature).log_softmax(-1) for name, each in logits.items()}

        def kl(one: str, other: str, log_q: dict[str, Tensor] = log_q) -> Tensor:
            value = (log_q[other].exp() * (log_q[other] - log_q[one])).sum(-1).mean()
            return temperature**2 * value

        others = [name for name in names if name != own]
        as_student = nn.functional.cross_entropy(logits[own], labels)
        as_student = as_student + torch.stack([kl(own, other) for other in others]).sum()
        as_target = torch.stack([kl(other, own) for other in others]).sum()
        key = "expected_grad" if own == "student" else f"expected_grad_{own}"
        (ours,) = torch.autograd.grad(as_student, logits[own], retain_graph=True)
        (through_targets,) = torch.autograd.grad(as_target, logits[own])
        network: Any = getattr(module, own)
        torch.testing.assert_close(network.logits.grad, ours, **EXACT)
        torch.testing.assert_close(ours + through_targets, vector[key], **EXACT)
        assert through_targets.abs().max() > 1e-2
