"""The depths of an optimizer step."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlight.callbacks.elastic.depths import sandwich


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000), st.data())
def test_a_step_ends_with_the_smallest_and_the_largest(
    smallest: int, more: int, step: int, data: st.DataObject
) -> None:
    largest = smallest + more
    random = data.draw(st.integers(0, more - 1))
    depths = sandwich(smallest, largest, random=random, seed=1, step=step)
    assert depths[-2:] == [smallest, largest]
    assert len(depths) == len(set(depths)) == 2 + random
    assert all(smallest < each < largest for each in depths[:random])
    assert depths == sandwich(smallest, largest, random=random, seed=1, step=step)


def test_every_depth_is_drawn_equally_often() -> None:
    before = torch.get_rng_state()
    steps = [sandwich(2, 8, random=2, seed=0, step=step)[:2] for step in range(1000)]
    counts = Counter(depth for each in steps for depth in each)
    assert sorted(counts) == [3, 4, 5, 6, 7]
    assert all(abs(count - 400) < 80 for count in counts.values())
    assert torch.equal(before, torch.get_rng_state())
    assert steps[:10] != [sandwich(2, 8, random=2, seed=1, step=step)[:2] for step in range(10)]
