from __future__ import annotations

import numpy as np
import pytest

from kdlight.remote.answers import to_sequence
from kdlight.remote.cropped_answers import crop


def test_cropping_is_the_softmax_of_what_is_left() -> None:
    p = np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    whole = to_sequence(1, [(0, [0, 1, 4], np.log(p[[0, 1, 4]]).tolist())], vocab_size=5)
    cropped = crop(whole, 4)
    wanted = p[:4] / p[:4].sum()
    assert cropped.ids.tolist() == [0, 1]
    assert np.exp(cropped.log_probs) == pytest.approx(wanted[:2], abs=1e-6)
    assert np.exp(cropped.log_tails) == pytest.approx(wanted[2:].sum(), abs=1e-6)
    assert crop(whole, 5) is whole


def test_a_position_that_loses_all_tokens_is_refused() -> None:
    whole = to_sequence(2, [(0, [1], [-0.5]), (1, [7], [-0.5])], vocab_size=8)
    with pytest.raises(ValueError, match="only tokens from 5 on"):
        crop(whole, 5)
