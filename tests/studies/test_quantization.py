"""The study of quantization counts right, and goes on where it was stopped."""

from __future__ import annotations

from typing import Any

import pytest

from tests.studies import quantization_digits as digits
from tests.studies import quantization_language as language


def figures(kl: float) -> dict[str, float]:
    return {"forward_kl": kl, "top1_agreement": 0.5, "nll": 4.0}


def results() -> dict[str, Any]:
    """Rounding costs 0.4 after training on, of which 0.3 and 0.5 are won back."""
    return {
        "before": figures(2.0),
        **{f"before, {bits} bits": figures(2.0 + 1 / bits) for bits in language.ROUNDED},
        "full, seed 0": {"full": figures(1.8), "rounded to 4": figures(2.2)},
        "trained with 4 bits, seed 0": figures(1.9),
        "full, seed 1": {"full": figures(1.6), "rounded to 4": figures(2.0)},
        "trained with 4 bits, seed 1": figures(1.5),
        "full, seed 2": {"full": figures(1.0), "rounded to 4": figures(9.0)},  # stopped here
    }


def test_the_share_won_back_is_that_of_what_rounding_costs_after_the_same_steps() -> None:
    assert language.shares(results(), 4) == pytest.approx([0.75, 1.25])


def test_the_table_has_a_row_for_each_student() -> None:
    lines = language.table(results()).splitlines()
    assert lines[2] == "| after 100 steps | 2.000 | 0.500 | 4.000 |"
    assert lines[3] == "| the same, rounded to 4 bits | 2.250 | 0.500 | 4.000 |"
    assert lines[6] == "| 20 more steps | 1.700 ± 0.100 | 0.500 ± 0.000 | 4.000 ± 0.000 |"
    assert lines[-1] == "| 4 | 100 ± 25 % |"


def test_digits_are_compared_with_the_rounded_student_of_their_seed() -> None:
    rows = {key: {"accuracy": 90.0, "kl": 0.1} for key in digits.ROWS}
    one = {**rows, "rounded": {"accuracy": 60.0, "kl": 1.0}}
    two = {**rows, "rounded": {"accuracy": 80.0, "kl": 1.0}}
    found = digits.table({"teacher": {"accuracy": 99.0}, "seed 0": one, "seed 1": two})
    lines = found.splitlines()
    assert lines[3] == "| the same, rounded to 2 bits | 70.0 ± 10.0 |  | 1.000 ± 0.000 |"
    assert lines[4] == "| 2 bits, on a teacher | 90.0 ± 0.0 | 20.0 ± 10.0 | 0.100 ± 0.000 |"
    assert lines[-1] == "| the teacher | 99.0 | | |"
