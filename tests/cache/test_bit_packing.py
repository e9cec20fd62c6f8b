"""Packed integers are unpacked to the same values, in few bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kdlight.cache.bit_packing import pack, pack_sorted, sorted_bits, unpack, unpack_sorted


@given(st.lists(st.integers(0, 2**13 - 1), max_size=50), st.integers(13, 20))
def test_numbers_come_back(values: list[int], width: int) -> None:
    array = np.array(values, dtype=np.int64)
    assert (unpack(pack(array, width), width, count=len(array)) == array).all()


@given(st.sets(st.integers(0, 5000), min_size=1), st.integers(0, 10**6))
def test_sorted_numbers_come_back_in_few_bits(values: set[int], beyond: int) -> None:
    array, below = np.array(sorted(values), dtype=np.int64), 5001 + beyond
    packed = pack_sorted(array, below)
    assert (unpack_sorted(packed, below, count=len(array)) == array).all()
    assert len(packed) <= sorted_bits(len(array), below) / 8 + 2
