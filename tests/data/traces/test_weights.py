"""Two models are told apart by their weights, whatever their name is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.data.traces.weights import VALUES, hash_weights, places_of
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


@pytest.mark.parametrize("column", [0, 5, 511])
def test_a_part_of_a_large_matrix_counts(column: int) -> None:
    model = torch.nn.Linear(512, 2048, bias=False)
    before = hash_weights(model)
    with torch.no_grad():
        model.weight[:, column : column + 8] += 1
        model.weight[:, max(column - 7, 0) : column] += 1
    assert hash_weights(model) != before


@pytest.mark.parametrize("size", [0, 1, VALUES, VALUES + 1, 10_007, 1 << 24])
def test_places_leave_no_large_gap(size: int) -> None:
    places = sorted(places_of(size))
    assert all(0 <= place < size for place in places)
    gaps = [b - a for a, b in zip([0, *places], [*places, size], strict=True)]
    assert max(gaps, default=0) <= max(2 * size / VALUES, 2)


def test_buffers_count() -> None:
    model = torch.nn.BatchNorm1d(3)
    before = hash_weights(model)
    model.running_mean += 1  # pyright: ignore[reportOperatorIssue]
    assert hash_weights(model) != before
