"""The same seed, the same numbers."""

from __future__ import annotations

import torch

from kdlight.callbacks.bilevel.seeding import seed


def test_the_numbers_are_those_of_manual_seed():
    torch.manual_seed(7)
    expected = torch.rand(3)
    seed(7, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
