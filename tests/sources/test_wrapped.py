"""What wraps a source has its positions, and is of the same type after a selection."""

from __future__ import annotations

import pytest
import torch

from kdlight import Dense
from kdlight.sources import Aligned, Alignment, Detached, Moved, Tempered
from kdlight.sources.wrapped import Wrapped

LOGITS = torch.randn(2, 3, 5, dtype=torch.float64)
CPU, SAME = torch.device("cpu"), torch.arange(5)
WRAPPERS = {
    "aligned": Aligned(Dense(LOGITS), Alignment(SAME, SAME, 5, 5)),
    "detached": Detached(Dense(LOGITS)),
    "moved": Moved(Dense(LOGITS), CPU, CPU),
    "tempered": Tempered(Dense(LOGITS), 1.0),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_rows_are_those_of_the_source(name: str) -> None:
    source = WRAPPERS[name]
    assert isinstance(source, Wrapped)
    assert (source.shape, source.dtype, source.device) == (LOGITS.shape, LOGITS.dtype, CPU)
    rows = source.select(torch.tensor([5, 0]))
    assert type(rows) is type(source)
    assert torch.equal(rows.logits(), LOGITS.flatten(0, 1)[[5, 0]])
    assert torch.equal(source.logits(), LOGITS)
