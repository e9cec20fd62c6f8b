"""TGeoKD against what the authors' code computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kdlight.objectives import LossInputs, TGeoKD

FOLDER = Path(__file__).parents[1] / "conformance" / "tgeo_kd"
CASES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load(case: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(FOLDER / f"{case}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(  # noqa: SIM118
            file.metadata()["meta"]
        )


class DoubleSoftmax(TGeoKD):
    """With the cross-entropy of the authors' code, which takes probabilities for logits."""

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        kd, _ = super().terms(student, teacher, labels)
        return kd, super().terms(student.softmax(-1), teacher, labels)[1]


def objective_of(
    kind: type[TGeoKD], given: dict[str, Tensor], meta: dict[str, Any]
) -> tuple[TGeoKD, Tensor]:
    """Return an objective with the authors' network and class means, and the features."""
    numbers = meta["hparams"]
    objective = kind(temperature=numbers["temperature"], classes=numbers["num_classes"])
    for layer, number in {0: 1, 2: 2, 4: 3}.items():
        weights = {n: given[f"controller.fc{number}.{n}"] for n in ("weight", "bias")}
        objective.network[layer].load_state_dict(weights)
    rows = (given["student_logits"], given["teacher_logits"], given["labels"])
    sums = objective.class_sums(objective.features(*rows))
    objective.add_class_sums(*sums)  # the means over the set, as published
    return objective, objective.features(*rows)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradient_are_those_of_the_authors(case: str):
    given, meta = load(case)
    close = {"rtol": meta["rtol"], "atol": meta["atol"]}
    objective, features = objective_of(DoubleSoftmax, given, meta)
    torch.testing.assert_close(features.double(), given["expected_features"], **close)
    torch.testing.assert_close(objective.network(features), given["expected_alpha"], **close)
    student = given["student_logits"].clone().requires_grad_()
    teacher, labels = given["teacher_logits"], given["labels"]
    kd, ce = objective.terms(student, teacher, labels)
    square = objective.temperature**2  # which the vectors have in the loss only
    torch.testing.assert_close(kd.detach() / square, given["expected_kd_per_sample"], **close)
    torch.testing.assert_close(ce.detach(), given["expected_ce_per_sample"], **close)
    loss = objective(LossInputs(student, teacher, labels)).mean()
    loss.backward()
    torch.testing.assert_close(loss.detach(), given["expected_loss"], **close)
    torch.testing.assert_close(student.grad, given["expected_grad"], **close)


@pytest.mark.parametrize("case", CASES)
def test_our_cross_entropy_is_that_of_the_logits(case: str):
    given, meta = load(case)
    objective, _ = objective_of(TGeoKD, given, meta)
    student, labels = given["student_logits"], given["labels"]
    kd, ce = objective.terms(student, given["teacher_logits"], labels)
    close = {"rtol": meta["rtol"], "atol": meta["atol"]}
    square = objective.temperature**2
    torch.testing.assert_close(kd / square, given["expected_kd_per_sample"], **close)
    expected = -student.log_softmax(-1)[torch.arange(len(labels)), labels]
    torch.testing.assert_close(ce, expected)
    assert (ce - given["expected_ce_per_sample"]).abs().max() > 0.1


def test_there_are_vectors():
    assert len(CASES) == 2
