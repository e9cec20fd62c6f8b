"""Brier score and negative log-likelihood: their definitions, and ignored positions."""

from __future__ import annotations

import pytest
import torch

from kdlight.metrics import BrierScore, NegativeLogLikelihood
from kdlight.metrics.scores import Score, brier
from tests.support.classifier import classifier


def test_scores_are_their_definitions(generator: torch.Generator) -> None:
    logits, labels = classifier(300, generator)
    labels[::7] = -100
    valid = labels >= 0
    q, one_hot = logits[valid].softmax(-1), torch.nn.functional.one_hot(labels[valid], 6)
    likelihood = q[one_hot.bool()]
    for metric, expected in (
        (BrierScore(), (q - one_hot).square().sum(-1).mean()),
        (NegativeLogLikelihood(), -logits[valid].log_softmax(-1)[one_hot.bool()].mean()),
    ):
        metric.update(logits[:100], labels[:100])
        metric.update(logits[100:].view(4, 50, 6), labels[100:].view(4, 50))
        assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(likelihood) < 300


def test_the_brier_score_goes_from_0_to_2() -> None:
    logits = torch.tensor([[30.0, -30.0], [0.0, 0.0], [-30.0, 30.0]])
    assert brier(logits, torch.zeros(3, dtype=torch.long)).tolist() == [0.0, 0.5, 2.0]


@pytest.mark.parametrize("kind", [BrierScore, NegativeLogLikelihood])
def test_ignored_positions_are_not_counted(kind: type[Score], generator: torch.Generator) -> None:
    logits, labels = classifier(90, generator)
    ignored = labels.clone()
    ignored[:30] = -100
    dirty = logits.clone()
    dirty[:30] = torch.nan
    masked, removed = kind(), kind()
    masked.update(dirty, ignored)
    removed.update(logits[30:], labels[30:])
    assert masked.compute() == removed.compute()


@pytest.mark.parametrize("kind", [BrierScore, NegativeLogLikelihood])
def test_without_positions_it_is_zero(kind: type[Score]) -> None:
    metric = kind()
    metric.update(torch.zeros(2, 3), torch.full((2,), -100))
    assert metric.compute() == 0


def test_labels_must_fit_the_logits() -> None:
    with pytest.raises(ValueError, match="labels"):
        BrierScore().update(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))
