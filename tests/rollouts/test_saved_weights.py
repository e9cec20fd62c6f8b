"""Weights are in the folder of a server whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdlight.rollouts import VLLMRollouts
from kdlight.rollouts.saved_weights import SavedWeights, saved_weights
from tests.support import tiny_lm, toy


def test_each_step_has_a_folder_and_others_are_forgotten(tmp_path: Path) -> None:
    saved, network = SavedWeights(tmp_path / "new"), toy.llama()
    run = saved.start_run()
    first, second = saved.save(network, f"{run}-1"), saved.save(network, f"{run}-2")
    assert first.is_dir()
    assert second.is_absolute()
    saved.forget_others(second)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"weights-{run}-2"]
    saved.forget_others()
    assert list((tmp_path / "new").iterdir()) == []


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    others = ["weights-final", "part-1", "weights-0a1b2c3d", "my-weights-0a1b2c3d-1", "weights-1-1"]
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("precious")
    for name in ("weights-0a1b2c3d-7", "part-0a1b2c3d-12"):  # of a run that was interrupted
        (tmp_path / name).mkdir()
    SavedWeights(tmp_path).start_run()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    SavedWeights(tmp_path / "none").forget_others()
    assert not (tmp_path / "none").exists()


def test_what_is_no_folder_is_refused_at_construction() -> None:
    bad: Any
    for bad, kind in (("", ValueError), (5, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="folder must be the path of a folder of this run, or None"):
            VLLMRollouts("http://localhost:1", folder=bad)
    bad = 5
    with pytest.raises(TypeError, match="model must be the name of a model or None"):
        VLLMRollouts("http://localhost:1", model=bad)


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
