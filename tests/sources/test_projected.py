"""Hidden states and a head: the head is applied to selected positions only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlight import Projected


class CountingHead(nn.Linear):
    """Counts the rows that it is applied to."""

    rows = 0

    def forward(self, hidden: Tensor) -> Tensor:
        self.rows += hidden.shape[:-1].numel()
        return super().forward(hidden)


def test_the_head_is_applied_to_selected_rows_only() -> None:
    hidden, head = torch.randn(2, 3, 4), CountingHead(4, 5)
    source = Projected(hidden, head)
    selected = source.select(torch.tensor([5, 1]))
    assert (source.shape, selected.shape) == ((2, 3, 5), (2, 5))
    assert head.rows == 0
    assert torch.equal(selected.logits(), nn.Linear.forward(head, hidden.view(6, 4)[[5, 1]]))
    assert head.rows == 2


def test_the_transform_is_applied_after_the_head() -> None:
    hidden, head = torch.randn(2, 4), nn.Linear(4, 5)
    source = Projected(hidden, head, transform=torch.tanh)
    assert torch.equal(source.logits(), head(hidden).tanh())
    assert torch.equal(source.select(slice(1, 2)).logits(), head(hidden[1:]).tanh())


def test_the_width_is_that_of_out_features_or_of_the_weight() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(7, 4))

        def forward(self, hidden: Tensor) -> Tensor:
            return hidden @ self.weight.t()

    source = Projected(torch.zeros(3, 4, dtype=torch.bfloat16), Head())
    assert source.shape == (3, 7)
    assert source.dtype == torch.bfloat16
    assert source.device == torch.device("cpu")
