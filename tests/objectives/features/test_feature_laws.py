"""The laws of `kdlight.testing` on every objective on features.

A row of the laws is the feature of a position of the logits, or of a sample. `EXCEPTIONS` lists the
laws that cannot hold, with the reason, and the test then requires that the law is indeed broken.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from kdlight.objectives import FeatureObjective, build_objective
from kdlight.testing import LAWS, worst
from tests.objectives.features.samples import FEATURES, PAIRS, FeatureSample, feature_inputs, randn

NOT_OF_FEATURES = {
    "a_constant_added_to_a_row_of_logits_changes_nothing": "features are no logits",
    "columns_at_minus_infinity_on_both_sides_are_outside_the_vocabulary": "they are no logits",
    "hidden_states_and_a_head_give_what_their_logits_give": (
        "they are tensors; test_hidden_states.py compares projectors in chunks with those at once"
    ),
}
FEATURE_LAWS = {name: law for name, law in LAWS.items() if name not in NOT_OF_FEATURES}
assert set(NOT_OF_FEATURES) <= set(LAWS)


class Case(NamedTuple):
    """An objective, its arguments, and the shape of the feature of a sample."""

    name: str
    shape: tuple[int, ...] | None
    options: dict[str, Any] = {}

    def __str__(self) -> str:
        chosen = ", ".join(f"{key}={value}" for key, value in self.options.items())
        where = "logits" if self.shape is None else "x".join(map(str, self.shape))
        return f"{self.name}({chosen}) {where}"


MAP, SEQUENCE, ROW = (3, 2, 2), (3, 4), (6,)
CASES = [
    *(
        Case("hidden_states", shape, {"kind": kind})
        for kind in ("mse", "smooth_l1", "cosine", "normalized_mse")
        for shape in (None, MAP)
    ),
    Case("hidden_states", None, {"projector": "linear", "sizes": (7, 7)}),
    Case("hidden_states", SEQUENCE, {"projector": "linear", "sizes": (4, 4)}),
    Case("hidden_states", SEQUENCE, {"channel_dim": 1}),
    Case("attention_transfer", MAP),
    Case("attention_transfer", MAP, {"p": 1.0}),
    Case("inter_channel_correlation", MAP),
    Case("inter_channel_correlation", MAP, {"projector": "linear", "sizes": (3, 3)}),
    *(
        Case("attention_relation", SEQUENCE, {"parts": ("q",), "heads": 2, **chosen})
        for chosen in ({}, {"kind": "mse"}, {"causal": True})
    ),
    *(
        Case(name, shape)
        for name in ("linear_cka", "relational", "similarity_preserving")
        for shape in (ROW, MAP, SEQUENCE)
    ),
    Case("linear_cka", ROW, {"debiased": True}),
    Case("similarity_preserving", SEQUENCE, {"pooling": "flatten"}),
    Case("similarity_preserving", MAP, {"pooling": "mean"}),
    Case("relational", ROW, {"angle": 0.0}),
]
KNOWN = {str(case): case for case in CASES}

PAIRWISE = {"linear_cka", "relational", "similarity_preserving"}
assert {case.name for case in CASES} == FEATURES


def exception(law: str, case: Case) -> str | None:
    """Return why a law cannot hold."""
    if law == "rows_add_up_however_the_work_is_split" and case.name in PAIRWISE:
        return "it compares the samples with each other"
    if law == "zero_at_a_match" and "projector" in case.options:
        return "a projector is between both"
    if law == "the_order_of_the_vocabulary_does_not_matter" and depends_on_order(case):
        return "channels and positions would be mixed, or the projector reads the order"
    if law == "never_negative" and "debiased" in case.options:
        return "one sample is too few"
    if law == "half_precision_is_widened_first" and "projector" in case.options:
        return "the values have the dtype of the projector; test_projector.py tests half precision"
    return None


def depends_on_order(case: Case) -> bool:
    if "projector" in case.options:
        return True
    if case.name == "hidden_states":
        return case.shape == MAP and case.options["kind"] not in ("mse", "smooth_l1")
    if case.name not in PAIRWISE:
        return True
    pooling = case.options.get("pooling", "auto")
    return pooling == "mean" or (pooling == "auto" and case.shape == SEQUENCE)


def build(case: Case) -> FeatureObjective:
    """Build the objective, with the same projectors each time."""
    torch.manual_seed(0)
    objective = build_objective(case.name, pairs=PAIRS, **case.options)
    assert isinstance(objective, FeatureObjective)
    if "sizes" in case.options:
        objective.bind(Networks("layer"), Networks("teacher_layer"))
    return objective.double()


class Networks(nn.Module):
    """A network with one layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, nn.Identity())


def cases() -> list[Any]:
    params = []
    for law, key in product(FEATURE_LAWS, KNOWN):
        reason = exception(law, KNOWN[key])
        error = ValueError if "debiased" in key else AssertionError  # too few samples are refused
        marks = [pytest.mark.xfail(reason=reason, raises=error)] if reason else []
        params.append(pytest.param(law, key, id=f"{law}-{key}", marks=marks))
    return params


@pytest.mark.parametrize(("law", "key"), cases())
def test_law(law: str, key: str) -> None:
    case = KNOWN[key]
    deviation = worst(FEATURE_LAWS[law](build(case), FeatureSample.of(case.shape)))
    assert deviation.excess <= 1, deviation


@pytest.mark.parametrize("key", KNOWN)
def test_two_calls_are_equal(key: str) -> None:
    case, objective = KNOWN[key], build(KNOWN[key])
    inputs = FeatureSample.of(case.shape).inputs()
    assert objective(inputs).total == objective(inputs).total


@pytest.mark.parametrize("key", KNOWN)
def test_a_batch_without_samples_is_zero_with_a_graph(key: str) -> None:
    case = KNOWN[key]
    shape = (7,) if case.shape is None else case.shape
    student = torch.zeros(0, *shape, dtype=torch.float64, requires_grad=True)
    loss = build(case)(feature_inputs(student, student.detach()))
    assert loss.mean() == loss.count == 0
    assert torch.autograd.grad(loss.total, student)[0].shape == student.shape


@pytest.mark.parametrize("key", KNOWN)
def test_it_does_not_depend_on_the_number_of_logits(key: str) -> None:
    case = KNOWN[key]
    shape = (7,) if case.shape is None else case.shape
    student, teacher = randn(6, *shape), randn(6, *shape, seed=1)
    one, many = (
        build(case)(feature_inputs(student, teacher, logits=torch.zeros(6, width)))
        for width in (1, 9)
    )
    assert one.total == many.total
