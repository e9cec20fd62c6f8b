"""BD-KD, compared with vectors of its formulas and of a third party's code (tests/conformance)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.balanced import balance, confidence_gap
from kdlight.objectives import (
    BDKD,
    CrossEntropy,
    ForwardKL,
    LossInputs,
    Objective,
    ReverseKL,
    Weighted,
)
from tests.methods.test_conformance import agree, entropy, read

VECTORS = sorted((Path(__file__).parents[1] / "conformance" / "bdkd").glob("*.safetensors"))
NAMES = {"w_hi": "high", "w_lo": "low", "entropy_tau": "entropy_temperature"}
UNCHANGED = {"weighting", "kappa", "normalise", "detach_weights"}


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 9


def options(hyper: dict[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of a student's vector by their names here; kappa is 1 by default."""
    named = {NAMES.get(key, key): hyper[key] for key in hyper.keys() & {*NAMES, *UNCHANGED}}
    return {"kappa": 1.0, "temperature": hyper.get("tau", 1.0), **named}


def learner(hyper: dict[str, Any]) -> Objective:
    """The objective of a vector; that of a teacher has the roles exchanged."""
    if hyper["fn"] == "bdkd_student":
        kd, cross_entropy = BDKD(**options(hyper)), hyper.get("alpha_ce", 0.0)
    else:
        kind = ReverseKL if hyper.get("direction") == "forward" else ForwardKL
        kd, cross_entropy = kind(temperature=hyper.get("tau", 1.0)), hyper.get("alpha_ce", 1.0)
    weights = {"kd": hyper.get("beta_kd", 1.0), "ce": cross_entropy}
    return Weighted({"kd": kd, "ce": CrossEntropy()}, weights)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_loss_and_gradient_are_those_of_the_vector(path: Path) -> None:
    meta, tensors = read(path)
    hyper, mask = meta["hparams"], tensors["mask"].bool()
    names = ["student", "teacher"] if hyper["fn"] == "bdkd_student" else ["teacher", "student"]
    own, other = (tensors[f"{name}_logits"].double() for name in names)
    own.requires_grad_()
    value = learner(hyper)(LossInputs(own, other, tensors["labels"], mask)).mean()
    expected = tensors.get("expected_loss_float64_reference", tensors["expected_loss"])
    if hyper.get("reduction") == "sequence_mean":
        value = mean_of_sequences(losses.balanced_kl(own, other), mask)
    gradient = torch.autograd.grad(value, own)[0]
    if hyper.get("fkl_form") == "cross_entropy":
        # the vector includes the teacher's entropy, with the weight of the forward term
        value = value + (tensors["expected_weight_forward"] * entropy(other))[mask].mean()
    expected_grad = tensors[f"expected_grad_{names[0]}"]
    agree(value.detach(), expected, torch.float64)
    agree(gradient, expected_grad, expected_grad.dtype)


def mean_of_sequences(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions of each sequence, then over the sequences with valid ones."""
    means = (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
    return means.sum() / mask.any(-1).sum()


STUDENTS = [path for path in VECTORS if "expected_weight_forward" in read(path)[1]]


@pytest.mark.parametrize("path", STUDENTS, ids=lambda path: path.stem)
def test_values_and_weights_are_those_of_the_vector(path: Path) -> None:
    meta, tensors = read(path)
    hyper, mask, named = meta["hparams"], tensors["mask"].bool(), options(meta["hparams"])
    student, teacher = (tensors[f"{side}_logits"].double() for side in ("student", "teacher"))
    at = named.pop("entropy_temperature", named["temperature"])
    del named["temperature"]
    named.pop("detach_weights", None)
    gap = confidence_gap(student, teacher, temperature=at)
    for weights, side in zip(balance(gap, **named), ("forward", "reverse"), strict=True):
        agree(weights[mask], tensors[f"expected_weight_{side}"][mask], torch.float64)
    if "expected_per_token" in tensors:
        values = BDKD(**options(hyper)).per_token_loss(student[mask], teacher[mask], None)
        scaled = hyper.get("beta_kd", 1.0) * values
        agree(scaled, tensors["expected_per_token"][mask], torch.float64)
