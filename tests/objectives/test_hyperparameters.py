"""Scalar hyper-parameters of objectives: which there are, reading, setting, and the log."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf, nan
from typing import Any

import pytest

from kdlight.objectives import (
    BDKD,
    DACKL,
    TAID,
    AdaptiveKL,
    AlphaBeta,
    CrossEntropy,
    DecoupledKL,
    ForwardKL,
    JensenShannon,
    LossInputs,
    SkewForwardKL,
    SkewReverseKL,
    SymmetricKL,
    ToDi,
    TopKForwardKL,
    TopKReverseKL,
    Weighted,
)
from kdlight.objectives.hyperparameters import logged_hyperparameters, scalar_hyperparameters
from kdlight.reduce import Chunking


def mixture() -> Weighted:
    inner = Weighted({"ab": AlphaBeta(), "ce": CrossEntropy()}, {"ce": 0.5})
    return Weighted({"inner": inner, "taid": TAID(t=0.3)}, {"taid": 2.0})


def test_attributes_and_entries_of_dicts_have_a_path() -> None:
    assert list(scalar_hyperparameters(mixture())) == [
        "weights.inner",
        "weights.taid",
        "terms.inner.weights.ab",
        "terms.inner.weights.ce",
        "terms.inner.terms.ab.temperature",
        "terms.inner.terms.ab.alpha",
        "terms.inner.terms.ab.beta",
        "terms.taid.t",
    ]


def test_choices_and_switches_are_no_scalars() -> None:
    scalars = scalar_hyperparameters(BDKD(weighting="soft", normalise=True))
    assert set(scalars) == {"temperature", "high", "low", "kappa", "tie_tol"}


def test_a_scalar_that_is_set_changes_the_loss(inputs: LossInputs) -> None:
    objective = mixture()
    before = objective(inputs).total
    scalars = scalar_hyperparameters(objective)
    assert scalars["terms.taid.t"].get() == 0.3
    scalars["weights.taid"].set(0.0)
    scalars["terms.inner.weights.ce"].set(0.0)
    scalars["terms.inner.terms.ab.alpha"].set(1.0)
    scalars["terms.inner.terms.ab.beta"].set(0.0)
    assert objective.weights["taid"] == 0.0
    assert abs(objective(inputs).total - ForwardKL()(inputs).total) < 1e-9
    assert abs(objective(inputs).total - before) > 1e-3


def test_the_log_holds_weights_temperatures_and_t() -> None:
    assert logged_hyperparameters(mixture()) == {
        "weights.inner": 1.0,
        "weights.taid": 2.0,
        "terms.inner.weights.ab": 1.0,
        "terms.inner.weights.ce": 0.5,
        "terms.inner.terms.ab.temperature": 1.0,
        "terms.taid.t": 0.3,
    }


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (AdaptiveKL, "head_mass", 2.0),
        (AlphaBeta, "alpha", inf),
        (AlphaBeta, "beta", nan),
        (BDKD, "high", -1.0),
        (BDKD, "low", inf),
        (BDKD, "kappa", -1.0),
        (BDKD, "tie_tol", -1.0),
        (BDKD, "weighting", "x"),
        (BDKD, "confidence", "x"),
        (partial(BDKD, granularity="sequence"), "high", -1.0),
        (partial(BDKD, granularity="sequence"), "confidence", "x"),
        (DACKL, "rule", "x"),
        (DACKL, "tail", "x"),
        (DACKL, "gate", "x"),
        (DACKL, "gate_temperature", -1.0),
        (DACKL, "residual", 0.5),
        (DACKL, "head", 0),
        (partial(DACKL, thresholds="fixed"), "lower", -0.5),
        (partial(DACKL, thresholds="fixed"), "lower", 0.99),
        (partial(DACKL, thresholds="fixed"), "upper", 1.5),
        (DecoupledKL, "target_weight", -1.0),
        (DecoupledKL, "non_target_weight", nan),
        (JensenShannon, "beta", 1.5),
        (SkewForwardKL, "skew", 1.0),
        (SkewReverseKL, "skew", -0.1),
        (SymmetricKL, "forward_weight", -1.0),
        (TAID, "t", 1.5),
        (ToDi, "temperature", 0.0),
        (TopKForwardKL, "k", 0),
        (TopKForwardKL, "student_temperature", -1.0),
        (TopKReverseKL, "k", 0),
    ],
)
def test_a_wrong_value_that_is_set_is_refused_at_once_and_in_chunks(
    kind: Any, name: str, value: Any, inputs: LossInputs
) -> None:
    objective = kind()
    setattr(objective, name, value)
    word = name.removeprefix("student_")
    for chunked in (False, Chunking(3, 2)):
        with pytest.raises(ValueError, match=rf"{word}.*{value}"):
            objective(replace(inputs, chunked=chunked))
