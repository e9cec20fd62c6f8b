"""A network that sees one half of an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight.models.digits import ConvNet
from kdlight.models.half_image import HalfImage


@pytest.mark.parametrize(("side", "columns"), [("left", range(4)), ("right", range(4, 8))])
def test_the_other_half_changes_nothing(side: Any, columns: range) -> None:
    network = HalfImage(ConvNet().eval(), side)
    images = torch.rand(2, 1, 8, 8)
    before = images.clone()
    for column in range(8):
        changed = images.clone()
        changed[..., column] += 1
        assert torch.equal(network(changed), network(images)) == (column not in columns)
    assert torch.equal(images, before)


def test_an_unknown_side_is_refused() -> None:
    with pytest.raises(ValueError, match="side must be one of .* got 'top'"):
        HalfImage(nn.Flatten(), "top")  # type: ignore[arg-type]
