from __future__ import annotations

import numpy as np
import torch

from kdlight.cache.placing import place_sequences
from kdlight.cache.records import Sequence

CPU = torch.device("cpu")


def sequence(length: int, positions: list[int], ids: list[int]) -> Sequence:
    count = len(set(positions))
    return Sequence(
        length,
        np.array(positions, dtype=np.int64),
        np.array(ids, dtype=np.int64),
        -np.arange(1, len(ids) + 1, dtype=np.float32),
        -np.arange(1, count + 1, dtype=np.float32),
    )


def test_rows_of_different_numbers_of_tokens() -> None:
    stored = {0: sequence(2, [0, 0, 1], [2, 5, 7]), 1: sequence(1, [0], [3])}
    source = place_sequences(stored, {0: 1, 1: 0}, torch.Size([2, 3]), vocabulary=9, device=CPU)
    assert source.shape == (2, 3, 9)
    assert source.ids[0, 1].tolist() == [2, 5]
    assert source.log_probs[0, 2].tolist() == [-3.0, -torch.inf]
    assert source.log_tail is not None
    assert source.log_tail.isnan().tolist() == [[True, False, False], [False, True, True]]


def test_positions_of_more_axes_and_no_row_at_all() -> None:
    source = place_sequences({}, {}, torch.Size([2, 2, 2]), vocabulary=4, device=CPU)
    assert source.shape == (2, 2, 2, 4)
    stored = {1: sequence(4, [3], [2])}
    source = place_sequences(stored, {1: 0}, torch.Size([2, 2, 2]), vocabulary=4, device=CPU)
    assert source.ids[1, 1, 1].tolist() == [2]
