"""The check of labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from kdlight import losses
from kdlight.losses.labels import IGNORE_INDEX, check_labels, check_mask


@pytest.mark.parametrize(
    "function", [losses.cross_entropy, partial(losses.decoupled_kl, torch.zeros(2, 7))]
)
def test_labels_that_do_not_fit_are_refused(function: Any) -> None:
    logits = torch.zeros(2, 7)
    with pytest.raises(ValueError, match=r"labels .* \(2,\) for logits \(2, 7\), got \(3,\)"):
        function(logits, torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match=r"labels must be integers, got torch.float32"):
        function(logits, torch.zeros(2))
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        function(logits, torch.tensor([0, 7]))
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        function(logits, torch.tensor([0, -1]))


def test_labels_of_any_integer_type_and_number_of_axes_are_allowed() -> None:
    for dtype in (torch.int32, torch.int64, torch.uint8):
        check_labels(torch.zeros(2, 5, 7), torch.zeros(2, 5, dtype=dtype))
    check_labels(torch.zeros(7), torch.tensor(IGNORE_INDEX))
    with pytest.raises(TypeError, match=r"labels must be integers, got torch.complex64"):
        check_labels(torch.zeros(2, 7), torch.zeros(2, dtype=torch.complex64))


def test_the_label_of_an_ignored_position_is_that_of_torch() -> None:
    logits = torch.randn(4, 7)
    labels = torch.tensor([1, IGNORE_INDEX, 3, 0])
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(losses.cross_entropy(logits, labels), expected)
    assert expected[1] == 0


def test_a_mask_is_boolean_or_of_integers() -> None:
    for mask in (None, torch.tensor([True]), torch.tensor([1])):
        check_mask("mask", mask)
    with pytest.raises(TypeError, match="teacher_mask must be boolean.*got torch.float64"):
        check_mask("teacher_mask", torch.ones(2, dtype=torch.float64))
