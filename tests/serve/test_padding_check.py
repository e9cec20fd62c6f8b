"""Padding that changes answers is noticed."""

from __future__ import annotations

import pytest
import torch

from kdlight.serve.padding_check import padding_changes_nothing
from kdlight.sources import Dense, LogitsSource

TOKENS = [1, 2, 3]


def logits_of(sequences: list[list[int]], change: float, dtype: torch.dtype) -> LogitsSource:
    """Logits that change by ``change`` for each token of padding after a sequence."""
    width = max(map(len, sequences))
    logits = torch.randn(1, 4, 9, generator=torch.Generator().manual_seed(0))
    logits = logits.repeat(len(sequences), width, 1)[:, :width].clone()
    for row, tokens in enumerate(sequences):
        logits[row, :, 0] += change * (width - len(tokens))
    return Dense(logits.to(dtype))


@pytest.mark.parametrize(
    ("change", "dtype", "expected"),
    [
        (0.0, torch.float32, True),
        (1e-6, torch.float32, True),
        (1e-3, torch.float32, False),
        (1e-3, torch.bfloat16, True),
        (1e-1, torch.bfloat16, False),
        (torch.nan, torch.float32, False),
    ],
)
def test_a_change_is_noticed(change: float, dtype: torch.dtype, expected: bool) -> None:
    def run(sequences: list[list[int]]) -> LogitsSource:
        changed = change if len(sequences) > 1 else 0.0
        return logits_of(sequences, changed, dtype)

    assert padding_changes_nothing(run, run([TOKENS]), TOKENS) == expected


def test_a_teacher_that_fails_with_padding_runs_without() -> None:
    def run(sequences: list[list[int]]) -> LogitsSource:
        raise RuntimeError("what is a mask?")

    assert not padding_changes_nothing(run, Dense(torch.zeros(1, 3, 9)), TOKENS)


def test_impossible_tokens_are_the_same_on_both_sides() -> None:
    def run(sequences: list[list[int]]) -> LogitsSource:
        logits = torch.zeros(len(sequences), max(map(len, sequences)), 5)
        logits[..., 2] = -torch.inf
        return Dense(logits)

    assert padding_changes_nothing(run, run([TOKENS]), TOKENS)
