"""Names of datasets of the Hugging Face hub, with the package replaced by a fake."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdlight.data.hub import load_hub_dataset


def test_a_name_gives_path_config_and_split(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def load_dataset(*arguments: Any, split: str) -> Any:
        return (*arguments, split)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert load_hub_dataset("hf:name") == ("name", None, "train")
    assert load_hub_dataset("hf:owner/name:test") == ("owner/name", None, "test")
    assert load_hub_dataset("hf:owner/name/config") == ("owner/name", "config", "train")
    folder = tmp_path / "owner" / "name" / "data"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load_hub_dataset("hf:owner/name/data") == ("owner/name/data", None, "train")


def test_a_failure_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*arguments: Any, split: str) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(ValueError, match="cannot load 'hf:name': no network"):
        load_hub_dataset("hf:name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'kdlight\[data\]'"):
        load_hub_dataset("hf:name")
