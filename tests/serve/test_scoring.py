"""Scores of rows are the log-probabilities of their logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlight.serve.scoring import score_given, score_top
from kdlight.sources import Dense, Projected, TopK

ROWS = [torch.arange(0, 4), torch.arange(6, 9), torch.arange(12, 13)]


@pytest.mark.parametrize("length", [13, 600])  # more than one chunk
def test_the_top_is_that_of_the_logits(length: int, generator: torch.Generator) -> None:
    logits = torch.randn(length, 30, generator=generator)
    rows = list(torch.arange(length).split(7))
    for scores, row in zip(score_top(Dense(logits), rows, 5), rows, strict=True):
        kept = TopK.of(logits[row], 5)
        order = kept.ids.argsort(-1)
        assert (scores.ids.reshape(-1, 5) == kept.ids.gather(-1, order).numpy()).all()
        found = scores.log_probs.reshape(-1, 5)
        assert found == pytest.approx(kept.log_probs.gather(-1, order).numpy(), abs=1e-6)
        assert (scores.positions.reshape(-1, 5) == np.arange(len(row))[:, None]).all()


@pytest.mark.parametrize("length", [13, 600])
def test_given_ids_and_all_others_sum_to_1(length: int, generator: torch.Generator) -> None:
    logits = torch.randn(length, 30, generator=generator)
    rows = list(torch.arange(length).split(7))
    drawn = np.random.default_rng(0)
    own = [np.stack([drawn.permutation(30)[:4] for _ in row]) for row in rows]
    for scores, row, few in zip(score_given(Dense(logits), rows, own), rows, own, strict=True):
        expected = logits[row].log_softmax(-1).gather(-1, torch.from_numpy(np.sort(few, -1)))
        assert (scores.ids.reshape(-1, 4) == np.sort(few, -1)).all()
        assert scores.log_probs.reshape(-1, 4) == pytest.approx(expected.numpy(), abs=1e-6)
        total = np.exp(scores.log_probs.reshape(-1, 4)).sum(-1) + np.exp(scores.log_tails)
        assert total == pytest.approx(np.ones(len(row)), abs=1e-6)


def test_rows_between_are_left_out(generator: torch.Generator) -> None:
    logits = torch.randn(13, 30, generator=generator)
    logits[[4, 5, 9, 10, 11]] = torch.nan
    answers = score_top(Dense(logits), ROWS, None)
    assert [each.length for each in answers] == [4, 3, 1]
    assert answers[1].log_probs == pytest.approx(logits[6:9].log_softmax(-1).flatten().numpy())


def test_impossible_tokens_have_no_entry_among_the_top_and_are_told_if_asked_for() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0, -torch.inf]])
    rows = [torch.arange(1)]
    (top,) = score_top(Dense(logits), rows, None)
    assert top.ids.tolist() == [0, 2]
    (asked,) = score_given(Dense(logits), rows, [np.array([[1, 2]])])
    assert asked.log_probs.tolist() == pytest.approx([-np.inf, -0.3133], abs=1e-4)


def test_logits_that_are_nan_are_an_error() -> None:
    source = Projected(torch.zeros(1, 3, 2), torch.nn.Linear(2, 5))
    torch.nn.init.constant_(source.head.bias, torch.nan)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="logits are NaN"):
        score_top(source, [torch.arange(3)], 2)
    with pytest.raises(ValueError, match="logits are NaN"):
        score_given(source, [torch.arange(3)], [np.zeros((3, 1), dtype=np.int64)])
