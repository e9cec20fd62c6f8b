"""A sum and its number of units."""

from __future__ import annotations

import torch

from kdlight.objectives import Loss
from kdlight.reduce import split_values


def test_the_mean_is_total_over_count() -> None:
    total = torch.tensor(6.0, requires_grad=True)
    Loss(total, torch.tensor(4)).mean().backward()
    assert total.grad == 0.25


def test_the_mean_of_no_unit_is_zero_with_a_graph() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    mean = Loss(0 * weight, torch.tensor(0)).mean()
    assert mean == 0
    assert mean.requires_grad


def test_values_are_split_into_losses_and_parts() -> None:
    values, parts = torch.ones(2), {"entropy": torch.zeros(2)}
    assert split_values(values) == (values, {})
    assert split_values((values, parts)) == (values, parts)
    assert split_values((values, parts))[1] is parts
