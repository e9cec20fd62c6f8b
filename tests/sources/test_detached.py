"""Logits of another network as constants."""

from __future__ import annotations

import torch
from torch import nn

from kdlight import Dense, Projected
from kdlight.sources import Detached, detached


def test_dense_and_projected_keep_their_type() -> None:
    head = nn.Linear(4, 5)
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    projected = Projected(hidden, head, transform=torch.tanh)
    hooked = nn.Linear(4, 5)
    hooked.register_forward_hook(lambda *call: call[-1] + 1)
    for source, kind in (
        (Dense(head(hidden)), Dense),
        (projected, Projected),
        (Projected(hidden, hooked), Detached),
        (Projected(hidden, nn.Sequential(head)), Detached),
    ):
        constant = detached(source)
        assert type(constant) is kind
        rows = torch.tensor([1, 4])
        for each, expected in ((constant, source), (constant.select(rows), source.select(rows))):
            assert torch.equal(each.logits(), expected.logits())
            assert not each.logits().requires_grad
    assert detached(projected).head.weight.data_ptr() == head.weight.data_ptr()  # type: ignore[attr-defined]
