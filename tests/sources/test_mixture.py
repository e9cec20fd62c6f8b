"""The weighted average of several sources."""

from __future__ import annotations

import pytest
import torch

from kdlight import Dense, TopK
from kdlight.sources import ConfidenceWeights, EntropyWeights, GivenWeights, Mixture

FIRST, SECOND = (
    torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
)


def test_a_mixture_averages_probabilities_by_weight() -> None:
    mixture = Mixture((Dense(FIRST), Dense(SECOND)), (0.25, 0.75), ("a", "b"))
    expected = 0.25 * FIRST.softmax(-1) + 0.75 * SECOND.softmax(-1)
    torch.testing.assert_close(mixture.logits().exp(), expected)
    selected = mixture.select(torch.tensor([4]))
    torch.testing.assert_close(selected.logits().exp(), expected.view(6, 5)[4:5])
    alone = Mixture((Dense(FIRST), Dense(SECOND)), (1.0, 0.0))
    torch.testing.assert_close(alone.logits(), FIRST.log_softmax(-1))


def test_a_mixture_gives_each_source_the_student() -> None:
    student, kept = torch.randn(6, 5), TopK.of(SECOND, 2)
    mixture = Mixture((Dense(FIRST), kept), (0.5, 0.5)).select(None)
    second = kept.select(None).given_student(student).softmax(-1)
    expected = (FIRST.view(6, 5).softmax(-1) + second) / 2
    torch.testing.assert_close(mixture.given_student(student).exp(), expected)


def test_a_mixture_has_its_sources_as_parts() -> None:
    sources = Dense(FIRST), Dense(SECOND)
    mixture = Mixture(sources, (0.5, 0.5), ("a", "b"))
    assert mixture.parts == {"a": sources[0], "b": sources[1]}
    assert [*mixture.select(slice(0, 2)).parts] == ["a", "b"]
    assert mixture.select(slice(0, 2)).parts["b"].shape == (2, 5)
    assert Mixture(sources, (0.5, 0.5)).parts == {}


LABELS = torch.tensor([[0, 4, -100], [2, 1, 3]])
GIVEN = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(3)).softmax(-1)


def by_position(kind: str, *tensors: torch.Tensor) -> Mixture:
    weights = {
        "given": GivenWeights(GIVEN),
        "confidence": ConfidenceWeights(LABELS),
        "entropy": EntropyWeights(),
    }[kind]
    return Mixture(tuple(map(Dense, tensors)), weights, ("a", "b", "c")[: len(tensors)])


@pytest.mark.parametrize("kind", ["given", "confidence", "entropy"])
def test_weights_of_positions_average_probabilities_row_by_row(kind: str) -> None:
    mixture = by_position(kind, FIRST, SECOND)
    p, q = FIRST.softmax(-1), SECOND.softmax(-1)
    weights = mixture.position_weights([p.log(), q.log()])
    expected = weights[..., :1] * p + weights[..., 1:] * q
    torch.testing.assert_close(mixture.logits().exp(), expected)
    rows = torch.tensor([5, 0])
    student = torch.randn(2, 5)
    selected = mixture.select(rows).given_student(student).exp()
    torch.testing.assert_close(selected, expected.view(6, 5)[rows])


@pytest.mark.parametrize("kind", ["confidence", "entropy"])
def test_equal_sources_average_to_themselves(kind: str) -> None:
    for mixture in (by_position(kind, FIRST), by_position(kind, FIRST, FIRST, FIRST)):
        torch.testing.assert_close(mixture.logits(), FIRST.log_softmax(-1))


def test_shares_are_means_over_the_rows_that_were_evaluated() -> None:
    mixture = by_position("given", FIRST, SECOND)
    assert mixture.shares == {}
    for rows in (torch.tensor([0, 4]), torch.tensor([5]), torch.empty(0, dtype=torch.long)):
        mixture.select(rows).given_student(torch.zeros(len(rows), 5))
    means = GIVEN.view(6, 2)[[0, 4, 5]].mean(0)
    torch.testing.assert_close(torch.stack([*mixture.shares.values()]), means)
    assert [*mixture.shares] == ["a", "b"]
    fixed = Mixture((Dense(FIRST), Dense(SECOND)), (0.25, 0.75), ("a", "b"))
    fixed.select(torch.empty(0, dtype=torch.long)).logits()
    assert [share.item() for share in fixed.shares.values()] == [0.0, 0.0]
    fixed.logits()
    assert [share.item() for share in fixed.shares.values()] == [0.25, 0.75]


def test_without_labels_weights_by_confidence_are_equal_at_any_depth() -> None:
    inner = by_position("confidence", FIRST, SECOND)
    plain = (FIRST.softmax(-1) + SECOND.softmax(-1)) / 2
    torch.testing.assert_close(inner.without_labels().logits().exp(), plain)
    outer = Mixture((inner, Dense(FIRST)), (0.5, 0.5), ("inner", "first"))
    expected = (plain + FIRST.softmax(-1)) / 2
    torch.testing.assert_close(outer.without_labels().logits().exp(), expected)
    for kind in ("given", "entropy"):
        same = by_position(kind, FIRST, SECOND)
        assert same.without_labels() is same


@pytest.mark.parametrize("kind", ["confidence", "entropy"])
def test_no_gradient_goes_through_weights(kind: str) -> None:
    leaf = FIRST.clone().requires_grad_()
    mixture = by_position(kind, leaf, SECOND)
    constant = mixture.position_weights([leaf.log_softmax(-1), SECOND.log_softmax(-1)])
    assert not constant.requires_grad
    fixed = Mixture((Dense(leaf), Dense(SECOND)), GivenWeights(constant))
    grads = [torch.autograd.grad(each.logits()[..., 0].sum(), leaf)[0] for each in (mixture, fixed)]
    torch.testing.assert_close(*grads)
