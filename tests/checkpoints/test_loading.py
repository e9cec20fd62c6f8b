"""A checkpoint is checked before Lightning loads it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch

from kdlight.checkpoints import check_before_loading
from kdlight.objectives import ForwardKL
from tests.support import resume_fit, toy
from tests.support.saved_run import cut, flip, save_run, sharded


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short run."""
    return save_run(tmp_path_factory.mktemp("saved"))


def test_an_incomplete_checkpoint_is_not_resumed(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    shutil.copy(saved, path)
    cut(path)
    with pytest.raises(ValueError, match="is incomplete"):
        resume_fit.fit(tmp_path, [], resume=str(path))


def test_a_damaged_checkpoint_is_not_resumed(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    shutil.copy(saved, path)
    momentum = torch.load(path, weights_only=True)["optimizer_states"][0]["state"]
    content = momentum[0]["momentum_buffer"].numpy().tobytes()
    flip(path, 8 * path.read_bytes().index(content) + 9)
    run = toy.trainer(tmp_path)
    check_before_loading(run.strategy)
    with pytest.raises(ValueError, match=r"a.ckpt' is damaged: .*use another checkpoint"):
        run.fit(toy.module(ForwardKL()), toy.loader(8), ckpt_path=str(path))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
def test_a_folder_that_names_code_is_not_loaded(saved: Path, tmp_path: Path) -> None:
    path = sharded(saved, tmp_path / "a.ckpt")
    (path / ".metadata").write_bytes(pickle.dumps(print))
    run = toy.trainer(tmp_path)
    check_before_loading(run.strategy)
    with pytest.raises(ValueError, match="names builtins.print, which is not plain data"):
        run.strategy.load_checkpoint(path)


def test_a_strategy_with_the_check_can_be_pickled(saved: Path, tmp_path: Path) -> None:
    """Lightning pickles it to start processes by spawning."""
    strategy = toy.trainer(tmp_path).strategy
    check_before_loading(strategy)
    check_before_loading(strategy)
    copied = pickle.loads(pickle.dumps(strategy))
    assert copied.load_checkpoint(saved)["global_step"] == 1
