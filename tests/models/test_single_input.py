"""A network reads one entry of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.models import (
    SingleInput,
)
from kdlight.sources import Dense


def test_a_plain_network_reads_one_entry_of_the_batch():
    net = nn.Linear(2, 3)
    x, y = torch.randn(4, 2), torch.zeros(4)
    for key, batch in ((0, (x, y)), (0, [x, y]), (1, (y, x)), ("x", {"x": x}), (0, x)):
        source = SingleInput(net, key=key)(batch)
        assert isinstance(source, Dense)
        assert torch.equal(source.logits(), net(x))


@pytest.mark.parametrize(("key", "batch"), [("x", {"y": 1}), (2, (1, 2)), ("x", (1, 2)), (0, None)])
def test_an_entry_that_is_not_in_the_batch(key, batch):
    with pytest.raises(ValueError, match=f"key={key!r}"):
        SingleInput(nn.Identity(), key=key)(batch)
