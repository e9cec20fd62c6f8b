"""Rows of batches of any form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.teachers.batch_rows import count_rows, select_batch_rows

X, Y, NAMES = torch.arange(12).view(4, 3), torch.arange(4), ["a", "b", "c", "d"]
SCALAR, SHORT = torch.tensor(5), ["x", "y"]
ROWS = torch.tensor([3, 1])


def test_rows_of_a_tensor() -> None:
    assert count_rows(X) == 4
    assert torch.equal(select_batch_rows(X, ROWS), X[[3, 1]])


@pytest.mark.parametrize("is_mapping", [False, True])
def test_rows_of_every_tensor_and_list_with_one_entry_a_row(is_mapping: bool) -> None:
    fields = {"scalar": SCALAR, "x": X, "y": Y, "names": NAMES, "short": SHORT, "flag": True}
    batch: Any = fields if is_mapping else [*fields.values()]
    assert count_rows(batch) == 4
    selected = select_batch_rows(batch, ROWS)
    values = dict(zip(fields, selected.values() if is_mapping else selected, strict=True))
    assert type(selected) is type(batch)
    assert torch.equal(values["x"], X[[3, 1]])
    assert torch.equal(values["y"], torch.tensor([3, 1]))
    assert values["names"] == ["d", "b"]
    # entries of another length belong to no row
    assert isinstance(values["scalar"], Tensor)
    assert values["scalar"] is SCALAR
    assert values["short"] is SHORT
    assert values["flag"] is True


def test_patches_of_all_images_are_not_divided_by_chance() -> None:
    ids = torch.arange(8).view(4, 2)
    batch = {"pixel_values": torch.randn(9, 5), "input_ids": ids}
    assert count_rows(batch) == 4
    with pytest.raises(ValueError, match=r"'pixel_values' .* the shape \(9, 5\), but there are"):
        select_batch_rows(batch, ROWS)


def test_positions_in_several_dimensions_have_rows_on_their_second_axis() -> None:
    positions = torch.arange(24).view(3, 4, 2)
    batch = {"position_ids": positions, "input_ids": X, "inner": {"y": Y}, "shared": X[:1]}
    selected = select_batch_rows(batch, ROWS)
    assert torch.equal(selected["position_ids"], positions[:, [3, 1]])
    assert selected["inner"]["y"].tolist() == [3, 1]
    assert torch.equal(selected["shared"], X[:1])


def test_a_batch_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="the batch has no tensor with rows: a dict"):
        count_rows({"name": "a"})
