"""An output head is sent only if its weights give its logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight.models.output_head import Rescale
from kdlight.serve.linear_head import head_weights
from kdlight.sources import Projected, tempered
from kdlight.teachers.cropping import crop_columns


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transform", [None, Rescale(cap=3.0)])
@pytest.mark.parametrize("size", [7, 5])
def test_the_weights_give_the_logits(bias: bool, transform: Any, size: int) -> None:
    hidden = torch.randn(2, 3, 4)
    source: Any = crop_columns(Projected(hidden, nn.Linear(4, 7, bias), transform), size)
    weight, own_bias, found = head_weights(source)
    logits = nn.functional.linear(hidden, weight, own_bias)
    logits = logits if found is None else found(logits)
    assert weight.shape == (size, 4)
    assert torch.allclose(logits, source.logits())


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class Other(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(7, 4, dtype=torch.uint8), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*hidden.shape[:-1], 7)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Doubled(4, 7), "Doubled is no linear map .* its weights give other logits"),
        (Other(), "Other .* no weight"),
        (nn.Sequential(nn.Linear(4, 7)), "Sequential .* no weight"),
    ],
)
def test_any_other_head_is_refused(head: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head_weights(Projected(torch.randn(2, 4), head))


def test_logits_that_are_changed_in_another_way_are_refused() -> None:
    source: Any = tempered(Projected(torch.randn(2, 4), nn.Linear(4, 7)), 2.0)
    with pytest.raises(ValueError, match="are changed by a"):
        head_weights(source)
