"""Numbers on a device without a copy."""

from __future__ import annotations

import pytest
import torch

from kdlight.losses.device_numbers import numbers_like
from tests.support.device_questions import questions


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("numbers", [[], [3], [1, 5, 2]], ids=["none", "one", "some"])
def test_numbers_are_those_of_a_tensor_and_nothing_is_copied(numbers, dtype):
    like = torch.zeros(2, 3, dtype=dtype)
    with questions() as found:
        result = numbers_like(numbers, like)
    assert not found.asked
    assert torch.equal(result, torch.tensor(numbers, dtype=dtype))
