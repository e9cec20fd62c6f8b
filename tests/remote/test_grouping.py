from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlight.remote.grouping import group


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 100), st.integers(1, 6))
def test_each_sequence_is_in_one_request_within_the_limit(
    lengths: list[int], max_tokens: int, requests: int
) -> None:
    groups = group(lengths, max_tokens=max_tokens, requests=requests)
    assert [i for each in groups for i in each] == [*range(len(lengths))]
    assert all(groups)
    for each in groups:
        assert len(each) == 1 or sum(lengths[i] for i in each) <= max_tokens


@pytest.mark.parametrize(("requests", "count"), [(1, 1), (2, 2), (4, 4), (8, 8)])
def test_sequences_are_divided_among_requests(requests: int, count: int) -> None:
    assert len(group([10] * 8, max_tokens=1000, requests=requests)) == count
