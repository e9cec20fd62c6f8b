"""Two models are told apart by their weights, whatever their name is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.data.traces.scoring.weights import hash_weights
from kdlight.models import load_model
from tests.support import tiny_lm


def test_a_saved_model_has_the_same_hash(tmp_path: Path) -> None:
    model = tiny_lm.model()
    model.save_pretrained(tmp_path)
    assert hash_weights(load_model(str(tmp_path))) == hash_weights(model)
    assert hash_weights(tiny_lm.model(seed=1)) != hash_weights(model)


def test_half_precision_has_a_hash() -> None:
    model = tiny_lm.model()
    assert hash_weights(tiny_lm.model().bfloat16()) != hash_weights(model)


@pytest.mark.parametrize("name", [name for name, _ in tiny_lm.model().named_parameters()])
def test_each_parameter_counts(name: str) -> None:
    model = tiny_lm.model()
    before = hash_weights(model)
    with torch.no_grad():
        model.get_parameter(name).mul_(1.01)
    assert hash_weights(model) != before
