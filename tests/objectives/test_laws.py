"""The laws of `kdlight.testing` on every objective in `OBJECTIVES`.

A new objective is tested as soon as it has an entry there. `EXCEPTIONS` lists the laws that cannot
hold, with the reason, and the test then requires that the law is indeed broken.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.objectives import (
    OBJECTIVES,
    Divergence,
    LearnableTemperature,
    Loss,
    Objective,
    build_objective,
)
from kdlight.testing import LAWS, Sample, worst
from kdlight.testing.laws import Deviations, compared
from tests.objectives.features.samples import FEATURES
from tests.support.reference import REFERENCE

# Hyper-parameters that the laws are checked with, in addition to the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "alpha_beta": [{"alpha": 1.0, "beta": 0.0}, {"alpha": 0.0, "beta": 0.0}],
    "bdkd": [
        {"high": 1.0, "low": 3.0},
        {"confidence": "max_prob", "normalise": True},
        {"weighting": "soft"},
        {"weighting": "soft", "detach_weights": False, "entropy_temperature": 2.0},
        {"granularity": "sequence"},
    ],
    "ctkd": [{"strength": 0.0}, {"low": 0.5, "span": 0.0}],
    "dackl": [
        {"thresholds": "fixed", "upper": 0.8, "rule": "quantile"},
        {"gate": "soft", "tail": "renorm"},
    ],
    "decoupled_kl": [{"target_weight": 0.0}],
    "jensen_shannon": [{"beta": 0.0}, {"beta": 0.1}, {"beta": 1.0}],
    "sampled_reverse_kl": [{"estimator": each} for each in ("k1", "k3", "score_function")],
    "sinkd": [{"cross_entropy": 0.0, "debiased": True}],
    "skew_forward_kl": [{"skew": 0.0}],
    "skew_reverse_kl": [{"skew": 0.0}],
    "symmetric_kl": [{"forward_weight": 0.9}],
    "taid": [{"t": 0.0}, {"t": 1.0}, {"log_cross_entropy": True}],
    "topk_forward_kl": [
        {"k": 2, "temperature": 2.0},
        {"k": 2, "temperature": 2.0, "student_temperature": 2.0},
        {"k": 9},
        {"k": 2, "tail": "renormalise"},
    ],
    "topk_reverse_kl": [{"k": 1}, {"k": 3, "temperature": 2.5}],
}

# Their inputs mark rejected sequences: tests/methods/test_redi_laws.py has the laws for them.
ELSEWHERE = {"dpo", "redi", "simpo", "unlikelihood"}
# Those of `FEATURES` have laws in tests/objectives/features/test_feature_laws.py.

# (law, objective or one of its settings): why it cannot hold there
EXCEPTIONS = {
    ("a_constant_added_to_a_row_of_logits_changes_nothing", "mean_squared_error"): (
        "it compares outputs themselves, and no probabilities"
    ),
    ("zero_at_a_match", "cross_entropy"): "compared with labels: the teacher is not used",
    (
        "gradient_is_the_slope",
        "adaptive_kl",
    ): "the shares of head and tail take no gradient",
    (
        "gradient_is_the_slope",
        "adaptive_kl(temperature=2.5)",
    ): "the shares of head and tail take no gradient",
    ("gradient_is_the_slope", "bdkd(weighting=soft)"): "the weights take no gradient",
    ("value_and_gradient_are_those_of_the_slow_reference", "bdkd(granularity=sequence)"): (
        "the reference is per row: tests/objectives/test_bdkd.py has one for sequences"
    ),
    (
        "masking_is_removing",
        "bdkd(granularity=sequence)",
    ): "the valid positions form one sequence, not two",
    (
        "gradient_is_the_slope",
        "taid",
    ): "the student's half of the target takes no gradient",
    (
        "gradient_is_the_slope",
        "taid(log_cross_entropy=True)",
    ): "the student's half takes no gradient",
    ("zero_at_a_match", "topk_forward_kl(k=2, temperature=2.0)"): "only the teacher is tempered",
    **{
        ("never_negative", f"sampled_reverse_kl(estimator={each})"): (
            "an unbiased estimate is below 0 for some tokens"
        )
        for each in ("k1", "score_function")
    },
    ("zero_at_a_match", "sampled_reverse_kl(estimator=k1)"): (
        "its gradient is 0 in the mean over draws, and not for each draw"
    ),
    ("gradient_is_the_slope", "sampled_reverse_kl(estimator=score_function)"): (
        "its gradient is that of the mean over draws"
    ),
    ("zero_at_a_match", "sinkd"): "labels, and the bias of an entropic plan",
    (
        "half_precision_is_widened_first",
        "sinkd",
    ): "the gradients of two terms are rounded separately",
    ("half_precision_is_widened_first", "sinkd(cross_entropy=0.0, debiased=True)"): (
        "the gradients of two terms are rounded separately"
    ),
    ("value_is_one_finite_number_over_all_positions", "uld"): "it counts sequences",
    **{
        ("rows_add_up_however_the_work_is_split", key): "it compares sets of rows, or sequences"
        for key in (
            "bdkd(granularity=sequence)",
            "multi_level_ot",
            "sinkd",
            "sinkd(cross_entropy=0.0, debiased=True)",
            "uld",
        )
    },
    ("masking_is_removing", "uld"): "the valid positions form one sequence, not two",
    ("masking_is_removing", "multi_level_ot"): "the valid positions form one sequence, not two",
    ("zero_at_a_match", "multi_level_ot"): "one of its terms is a cross-entropy",
    **{
        ("value_and_gradient_are_those_of_the_slow_reference", key): (
            f"the reference is per row: tests/methods/{own} has one for sets of rows"
        )
        for key, own in {
            "sinkd": "test_sinkhorn.py",
            "sinkd(cross_entropy=0.0, debiased=True)": "test_sinkhorn.py",
            "uld": "test_uld.py",
            "multi_level_ot": "test_multi_level_ot.py",
        }.items()
    },
    **{
        ("value_and_gradient_are_those_of_the_slow_reference", f"dackl{chosen}"): (
            "a network predicts thresholds: tests/losses/clipped_kl/test_dac_kl.py has given ones"
        )
        for chosen in (
            "",
            "(temperature=2.5)",
            "(thresholds=fixed, upper=0.8, rule=quantile)",
            "(gate=soft, tail=renorm)",
        )
    },
    ("zero_at_a_match", "tgeo_kd"): "one of its terms is a cross-entropy",
    ("gradient_is_the_slope", "tgeo_kd"): "the ratio of the terms takes no gradient",
    ("value_and_gradient_are_those_of_the_slow_reference", "tgeo_kd"): (
        "a network predicts the ratio: tests/objectives/fusion/test_tgeo_kd.py has the formula"
    ),
    ("gradient_is_the_slope", "todi"): "the choice of each entry takes no gradient",
    (
        "gradient_is_the_slope",
        "todi(temperature=2.5)",
    ): "the choice of each entry takes no gradient",
}


def settings() -> dict[str, Callable[[], Objective]]:
    """All objectives with their defaults, another temperature, and `SETTINGS`, by id."""
    objectives: dict[str, Callable[[], Objective]] = {}
    for name, kind in OBJECTIVES.items():
        if name in ELSEWHERE or name in FEATURES:
            continue
        tempered = [{"temperature": 2.5}] if issubclass(kind, Divergence) else []
        for chosen in ({}, *tempered, *SETTINGS.get(name, [])):
            arguments = ", ".join(f"{key}={value}" for key, value in chosen.items())
            build = lambda name=name, chosen=chosen: build_objective(name, **chosen)  # noqa: E731
            objectives[f"{name}({arguments})" if arguments else name] = build
    return objectives


def value_and_gradient_are_those_of_the_slow_reference(
    objective: Objective, sample: Sample
) -> Deviations:
    """A law for the objectives of kdlight only, which have a slow reference."""
    objective = objective.double()
    expected = by_reference(objective, sample.student, sample.teacher, sample.labels)
    yield from compared(objective(sample.inputs()), Loss(expected, expected), sample.student)


def by_reference(objective: Objective, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Compute the expected sum row by row, from `tests.support.reference`."""
    learned = isinstance(objective, LearnableTemperature)
    rule = objective.objective if learned else objective
    (name,) = (name for name, kind in OBJECTIVES.items() if type(rule) is kind)
    assert name in REFERENCE, (
        f"write a slow reference of {name}, from its formula, in tests/support/reference.py"
    )
    numbers = {
        key: getattr(rule, key)
        for key, parameter in signature(REFERENCE[name]).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
    }
    if learned:
        numbers["temperature"] = objective.temperature
    rows = [student.flatten(0, -2)]
    rows += [teacher.flatten(0, -2)] if "teacher" in objective.needs else []
    rows += [labels.flatten()] if "labels" in objective.needs else []
    total = torch.stack([REFERENCE[name](*row, **numbers) for row in zip(*rows, strict=True)]).sum()
    return total * numbers["temperature"] ** 2 if isinstance(rule, Divergence) else total


EVERY_LAW = {
    **LAWS,
    "value_and_gradient_are_those_of_the_slow_reference": (
        value_and_gradient_are_those_of_the_slow_reference
    ),
}
KNOWN = settings()
assert set(EXCEPTIONS) <= {(law, key) for law in EVERY_LAW for key in KNOWN}


def cases() -> list[Any]:
    params = []
    for law, key in product(EVERY_LAW, KNOWN):
        reason = EXCEPTIONS.get((law, key))
        excepted = [pytest.mark.xfail(reason=reason, raises=AssertionError)] if reason else []
        params.append(pytest.param(law, key, id=f"{law}-{key}", marks=excepted))
    return params


@pytest.mark.parametrize(("law", "key"), cases())
def test_law(law: str, key: str) -> None:
    deviation = worst(EVERY_LAW[law](KNOWN[key](), Sample.draw()))
    assert deviation.excess <= 1, deviation
