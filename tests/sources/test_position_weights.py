"""Weights that differ from position to position: laws, definitions and limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight.sources import ConfidenceWeights, EntropyWeights, GivenWeights, PositionWeights
from kdlight.sources.position_weights import stack_last

ROWS, V = 6, 5
LABELS = torch.tensor([0, 4, -100, 2, 1, 3])


def log_probs(sources: int, *, scale: float = 2.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sources)
    logits = scale * torch.randn(sources, ROWS, V, generator=generator, dtype=torch.float64)
    return list(logits.log_softmax(-1))


RULES: dict[str, PositionWeights] = {
    "confidence": ConfidenceWeights(LABELS),
    "entropy": EntropyWeights(),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sources", [1, 2, 3, 5])
def test_weights_sum_to_one_and_follow_the_order_of_the_sources(rule: str, sources: int) -> None:
    each = log_probs(sources)
    weights = RULES[rule](each)
    assert weights.shape == (ROWS, sources)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(ROWS).double(), rtol=0, atol=1e-12)
    order = list(reversed(range(sources)))
    other = RULES[rule]([each[k] for k in order])
    torch.testing.assert_close(other, weights[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_equal_sources_have_equal_weights(rule: str) -> None:
    weights = RULES[rule](log_probs(1) * 3)
    torch.testing.assert_close(weights, torch.full((ROWS, 3), 1 / 3).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_weights_of_some_rows_are_those_of_all(rule: str) -> None:
    each = log_probs(3)
    for rows in (torch.tensor([4, 0]), slice(1, 4)):
        some = RULES[rule].select(rows)([log_p[rows] for log_p in each])
        assert torch.equal(some, RULES[rule](each)[rows])


def test_confidence_is_that_of_the_definition() -> None:
    each = log_probs(3)
    weights = ConfidenceWeights(LABELS)(each)
    for row, label in enumerate(LABELS.tolist()):
        costs = [0.0 if label < 0 else -log_p[row, label].item() for log_p in each]
        total = sum(map(math.exp, costs))
        expected = [(1 - math.exp(cost) / total) / 2 for cost in costs]
        assert weights[row].tolist() == pytest.approx(expected, rel=1e-12)


def test_of_two_sources_each_has_its_share_of_the_probability_of_the_label() -> None:
    one, two = (
        log_p.exp().gather(-1, LABELS.clamp(min=0)[:, None])[:, 0] for log_p in log_probs(2)
    )
    weights = ConfidenceWeights(LABELS)(log_probs(2))[:, 0]
    valid = LABELS >= 0
    torch.testing.assert_close(weights[valid], (one / (one + two))[valid])


def test_entropy_is_that_of_the_definition() -> None:
    each = log_probs(3)
    weights = EntropyWeights()(each)
    for row in range(ROWS):
        entropies = [-sum(p * math.log(p) for p in log_p[row].exp().tolist()) for log_p in each]
        expected = [(1 - entropy / sum(entropies)) / 2 for entropy in entropies]
        assert weights[row].tolist() == pytest.approx(expected, rel=1e-10)


def test_a_source_that_gives_the_label_no_probability() -> None:
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).log()
    even = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]).log()
    weights = ConfidenceWeights(torch.tensor([1, 1, 0]))([certain, even])
    expected = torch.tensor([[0.0, 1.0], [2 / 3, 1 / 3], [0.5, 0.5]])
    torch.testing.assert_close(weights, expected)


def test_sources_without_any_entropy_have_equal_weights() -> None:
    certain, other = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
    assert EntropyWeights()([certain, other]).tolist() == [[0.5, 0.5]]
    assert EntropyWeights()([certain]).tolist() == [[1.0]]


def test_given_weights_are_selected_with_their_rows() -> None:
    weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.25, 0.75]]])
    selected = GivenWeights(weights).select(torch.tensor([3, 0]))
    assert selected([torch.zeros(2, V)] * 2).tolist() == [[0.25, 0.75], [1.0, 0.0]]


def test_stacked_values_have_the_widest_dtype() -> None:
    stacked = stack_last([torch.zeros(2, dtype=torch.bfloat16), torch.ones(2)])
    assert (stacked.dtype, stacked.shape) == (torch.float32, (2, 2))
