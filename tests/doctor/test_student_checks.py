"""A student without trainable parameters, and parts of it in evaluation mode."""

from __future__ import annotations

import pytest
from torch import nn

from kdlight.doctor.student_checks import check_student


def student(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Dropout(dropout), nn.ReLU(), nn.Tanh(), nn.Sigmoid())


def test_a_student_in_train_mode_has_no_findings() -> None:
    assert list(check_student(student(0.1))) == []


def test_a_frozen_student_is_an_error() -> None:
    (found,) = check_student(student().requires_grad_(False))
    assert found.level == "error"
    assert found.text.startswith(
        "the student (Sequential) has no trainable parameters: none of its 2"
    )


@pytest.mark.parametrize(("dropout", "level"), [(0.1, "error"), (0.0, "warning")])
def test_a_part_in_evaluation_mode(dropout: float, level: str) -> None:
    network = student(dropout)
    network[1].eval()
    (found,) = check_student(network)
    assert found.level == level
    assert ": 1" in found.text


def test_many_parts_are_shortened() -> None:
    network = student()
    for part in network:
        part.eval()
    (found,) = check_student(network)
    assert found.text.endswith(": 0, 1, 2 and 2 more")


def test_a_whole_student_in_evaluation_mode_is_set_to_train_mode_by_a_fit() -> None:
    assert list(check_student(student(0.1).eval())) == []
