"""The size of a cache is estimated before it is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdlight.cache import size_estimate
from kdlight.cache.size_estimate import check_disk_space, is_empty, megabytes
from tests.cache.caches import manifest
from tests.support import toy


def test_a_cache_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data: Any = toy.RaggedModule(4)
    data.trainer = toy.trainer(tmp_path)
    with caplog.at_level("INFO"):
        check_disk_space(data, manifest(k=5), tmp_path)
    assert "positions with 5 tokens each" in caplog.text
    disk = SimpleNamespace(disk_usage=lambda folder: SimpleNamespace(free=100))
    monkeypatch.setattr(size_estimate, "shutil", disk)
    with pytest.raises(ValueError, match="cache needs about .* has 0.0 MB free; choose another"):
        check_disk_space(data, manifest(k=5), tmp_path)


def test_no_loader_and_one_without_batches_are_empty() -> None:
    assert is_empty(None)
    assert is_empty([])
    assert not is_empty(iter([1]))
    assert not is_empty(toy.loader(4))


def test_bytes_are_shown_in_megabytes() -> None:
    assert megabytes(1_234_567_890) == "1,234.6 MB"
