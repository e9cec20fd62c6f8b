"""The weighted average of several sources."""

from __future__ import annotations

import torch

from kdlight import Dense, TopK
from kdlight.sources import Mixture

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
