"""The base class without pairs: weights of sequences that do not depend on the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.objectives import LossInputs
from kdlight.objectives.unpaired_preference import UnpairedPreference
from kdlight.reduce import PerTokenValues
from tests.support.objectives import check_refused
from tests.support.preferences import preferences

DEFAULTS: dict[str, Any] = {
    "alpha": 0.5,
    "chosen_weight": 1.0,
    "rejected_per_chosen": 1.0,
    "min_rejected_length": 1,
}


class Counting(UnpairedPreference):
    """A loss of 1 for tokens of chosen sequences, and of 10 for tokens of rejected ones."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**DEFAULTS, **options})

    def chosen_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        return torch.ones_like(student[:, 0])

    def rejected_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        return torch.full_like(student[:, 0], 10.0)


def test_each_sequence_is_a_mean_over_its_tokens() -> None:
    inputs = preferences([False, True, True, False])
    assert Counting()(inputs).mean() == 1 + 0.5 * 10
    assert Counting(chosen_weight=3.0)(inputs).mean() == 3 + 0.5 * 10


def test_the_weight_of_a_sequence_does_not_depend_on_the_batch() -> None:
    objective = Counting(rejected_per_chosen=2.0)
    together = objective(preferences([False, True, True]))
    alone = [objective(preferences([kind])) for kind in (False, True, True)]
    torch.testing.assert_close(together.total, sum(loss.total for loss in alone))
    assert together.count == sum(loss.count for loss in alone) == 3
    torch.testing.assert_close(together.mean().item(), 1 + 0.5 * 10)


def test_a_minimum_length_divides_short_rejected_sequences() -> None:
    inputs = preferences([True])  # of 3 tokens
    short = Counting(min_rejected_length=6)(inputs)
    torch.testing.assert_close(short.total, Counting()(inputs).total / 2)
    chosen = preferences([False])
    assert Counting(min_rejected_length=6)(chosen).total == Counting()(chosen).total


def test_an_infinite_loss_without_a_weight_adds_nothing() -> None:
    class Infinite(Counting):
        def rejected_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> Tensor:
            return torch.full_like(student[:, 0], torch.inf)

    inputs = preferences([False, True])
    assert Infinite(alpha=0.0)(inputs).mean() == 1
    assert Infinite(alpha=0.1)(inputs).mean() == torch.inf


def test_without_rejected_the_count_is_that_of_chosen_sequences() -> None:
    inputs = preferences([False, False, False])
    unmarked = LossInputs(inputs.student, None, inputs.labels, inputs.mask)
    loss = Counting(rejected_per_chosen=7.0)(unmarked)
    assert (loss.count, loss.mean()) == (3, 1)


def test_hyper_parameters_are_checked() -> None:
    check_refused(Counting, alpha=-0.1)
    check_refused(Counting, chosen_weight=-1.0)
    check_refused(Counting, rejected_per_chosen=0.0)
    check_refused(Counting, min_rejected_length=0)


def test_a_subclass_without_a_rejected_loss_is_named() -> None:
    with pytest.raises(NotImplementedError, match="UnpairedPreference does not define rejected_"):
        UnpairedPreference(**DEFAULTS)(preferences([False, True]))
