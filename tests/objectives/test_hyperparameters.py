"""Scalar hyper-parameters of objectives: which there are, reading, setting, and the log."""

from __future__ import annotations

from kdlight.objectives import BDKD, TAID, AlphaBeta, CrossEntropy, ForwardKL, LossInputs, Weighted
from kdlight.objectives.hyperparameters import logged_hyperparameters, scalar_hyperparameters


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
