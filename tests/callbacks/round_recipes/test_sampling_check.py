"""Several greedy answers would be the same."""

from __future__ import annotations

import pytest

from kdlight.callbacks.round_recipes.sampling_check import check_samples
from kdlight.models import Sampling


def test_only_several_greedy_answers_are_refused() -> None:
    check_samples("samples", 4, Sampling(temperature=0.1))
    check_samples("samples", 1, Sampling(temperature=0.0))
    with pytest.raises(ValueError, match="samples is 2, but with sampling.temperature 0"):
        check_samples("samples", 2, Sampling(temperature=0.0))
