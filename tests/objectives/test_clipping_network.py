"""The clipping network: where it starts, its bounds, and what it depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.objectives import ClippingNetwork


def test_it_starts_with_the_same_thresholds_everywhere(student: Tensor, teacher: Tensor) -> None:
    network = ClippingNetwork(lower=0.1, upper=0.8, lower_max=0.5)
    lower, upper = network(student.flatten(0, 1), teacher.flatten(0, 1))
    torch.testing.assert_close(upper, torch.full_like(upper, 0.8))
    torch.testing.assert_close(lower, torch.full_like(lower, 0.1 * 0.5 * 0.8))


def test_any_weights_keep_the_bounds() -> None:
    network = ClippingNetwork()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=30.0)
    lower, upper = network(torch.randn(200, 30), torch.randn(200, 30))
    assert (lower >= 0).all()
    assert (lower <= 0.3 * upper).all()
    assert (upper >= 0.5).all()
    assert (upper <= 1).all()


def test_its_size_does_not_depend_on_the_vocabulary(student: Tensor, teacher: Tensor) -> None:
    network = ClippingNetwork(top_k=4)
    assert network.features(student[0], teacher[0]).shape == (5, 2 * 4 + 4)
    assert network.features(torch.randn(3, 2), torch.randn(3, 2)).shape == (3, 2 * 4 + 4)
    assert network.features(student[0], teacher[0]).isfinite().all()


def test_the_input_takes_no_gradient(student: Tensor, teacher: Tensor) -> None:
    lower, upper = ClippingNetwork()(student[0], teacher[0])
    (lower.sum() + upper.sum()).backward()
    assert student.grad is None


def test_forbidden_tokens_give_finite_features(student: Tensor, teacher: Tensor) -> None:
    columns = torch.zeros(7, dtype=torch.float64)
    columns[2] = -torch.inf
    features = ClippingNetwork(top_k=7).features(student[0] + columns, teacher[0] + columns)
    assert features.isfinite().all()


@pytest.mark.parametrize(
    "wrong", [{"top_k": 0}, {"hidden": 0}, {"upper_min": 1.0}, {"upper": 0.4}, {"lower": 1.0}]
)
def test_a_wrong_argument_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClippingNetwork(**wrong)


@pytest.mark.parametrize("width", [5, 90])
def test_known_features_are_used_as_they_are(width: int) -> None:
    network = ClippingNetwork()
    torch.nn.init.normal_(network.net[-1].weight)  # type: ignore[arg-type]
    student, teacher = torch.randn(2, 3, width).unbind()
    log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
    top, order = log_p.topk(min(network.top_k, width), -1)
    entropies = (-(x.exp() * x).sum(-1) for x in (log_p, log_q))
    features = network.assembled((top, log_q.gather(-1, order)), entropies)
    torch.testing.assert_close(features, network.features(student, teacher))
    for one, other in zip(
        network(student, teacher, features), network(student, teacher), strict=True
    ):
        torch.testing.assert_close(one, other)
    for one, other in zip(
        network(teacher, student, features), network(student, teacher), strict=True
    ):
        torch.testing.assert_close(one, other)
