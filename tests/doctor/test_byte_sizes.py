"""Bytes of tensors and files, and how they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.doctor.byte_sizes import folder_bytes, format_bytes, tensor_bytes


def test_tied_tensors_count_once_and_integers_keep_their_dtype() -> None:
    weight, ids = torch.zeros(10), torch.zeros(10, dtype=torch.long)
    assert tensor_bytes([weight, weight, ids]) == 40 + 80
    assert tensor_bytes([weight, ids], torch.bfloat16) == 20 + 80


def test_files_of_all_folders_count(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(bytes(3))
    (tmp_path / "b").write_bytes(bytes(4))
    assert folder_bytes(tmp_path) == 7


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 2**29, "1.5 GiB"), (2**42, "4.0 TiB")],
)
def test_a_unit_is_chosen_by_size(count: int, text: str) -> None:
    assert format_bytes(count) == text
