"""The network of a gate."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives.fusion.gate_network import GateNetwork


def test_it_is_linear_in_its_rows() -> None:
    gate = GateNetwork(5, 3).double()
    assert (gate.hidden.out_features, gate.size) == (10, 5)
    one, two = torch.randn(2, 4, 5, dtype=torch.float64)
    middle = gate((one + two) / 2)
    torch.testing.assert_close(middle, (gate(one) + gate(two)) / 2)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 2), "size must be at least 1, got 0"),
        ((4, 1), "teachers must be at least 2, got 1"),
    ],
)
def test_sizes_are_checked(sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateNetwork(*sizes)
