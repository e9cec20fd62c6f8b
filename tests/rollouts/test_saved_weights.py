"""Weights are in the folder of a server whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdlight.rollouts.saved_weights import SavedWeights, saved_weights
from tests.support import tiny_lm, toy


def test_each_step_has_a_folder_and_others_are_forgotten(tmp_path: Path) -> None:
    saved, network = SavedWeights(tmp_path / "new"), toy.llama()
    first, second = saved.save(network, "a-1"), saved.save(network, "a-2")
    assert first.is_dir()
    assert second.is_absolute()
    saved.forget_others(second)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["weights-a-2"]
    saved.forget_others()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_model_without_a_wrapper_is_saved_too(tmp_path: Path) -> None:
    model = tiny_lm.model()
    folder = SavedWeights(tmp_path).save(model, "1")
    read = load_file(folder / "model.safetensors")
    assert torch.equal(read["lm_head.weight"], model.lm_head.weight)


def test_what_fails_leaves_no_folder_of_this_name(tmp_path: Path) -> None:
    class Breaks:
        def save_pretrained(self, folder: Path, **options: Any) -> None:
            folder.mkdir()
            raise OSError("the disk is full")

    saved = SavedWeights(tmp_path)
    with pytest.raises(OSError, match="full"):
        saved.save(Breaks(), "1")
    assert not (tmp_path / "weights-1").exists()
    assert saved.save(toy.llama(), "1").is_dir()  # over what is left
    assert [path.name for path in tmp_path.iterdir()] == ["weights-1"]


def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder=None"):
        saved_weights(None, toy.llama())
    with pytest.raises(ValueError, match="ToyLM has no save_pretrained"):
        saved_weights(tmp_path, toy.ToyLM())
