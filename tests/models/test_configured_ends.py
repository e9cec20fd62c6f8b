"""The end tokens that the files of a model name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.models.configured_ends import configured_ends
from tests.support import tiny_lm


def test_they_are_read_without_the_weights(tmp_path: Path) -> None:
    tiny_lm.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert configured_ends(str(tmp_path)) == [0]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [3, 5]}')
    assert configured_ends(str(tmp_path)) == [3, 5]
    (tmp_path / "generation_config.json").unlink()
    assert configured_ends(str(tmp_path)) == [0]  # of the config


def test_a_folder_without_a_config_names_none(tmp_path: Path) -> None:
    assert configured_ends(str(tmp_path)) == []
    with pytest.raises(ValueError, match="does not exist"):
        configured_ends(str(tmp_path / "nowhere"))
