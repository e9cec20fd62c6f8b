"""Log-probabilities of sequences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses


def test_a_sequence_without_labels_is_no_sequence() -> None:
    logits = torch.full((2, 3, 5), math.nan)
    logits[0, 1] = 0.0
    logits.requires_grad_()
    labels = torch.tensor([[-100, 4, -100], [-100, -100, -100]])
    sums, lengths = losses.sequence_log_probs(logits, labels)
    torch.testing.assert_close(sums, torch.tensor([-math.log(5), 0.0]))
    assert lengths.tolist() == [1, 0]
    slope = torch.autograd.grad(sums.sum(), logits)[0]
    assert slope.isfinite().all()
    assert slope[0, 1].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: losses.sequence_log_probs(m, m), r"shape \(B, T, V\)"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2))


def test_sums_and_lengths_are_those_of_the_labels(student: Tensor) -> None:
    labels = torch.tensor([[-100, 2, 0, -100, 6], [1, -100, -100, -100, -100]])
    sums, lengths = losses.sequence_log_probs(student, labels)
    log_q = student.log_softmax(-1)
    expected = log_q[0, 1, 2] + log_q[0, 2, 0] + log_q[0, 4, 6], log_q[1, 0, 1]
    torch.testing.assert_close(sums, torch.stack(expected))
    assert lengths.tolist() == [3, 1]
