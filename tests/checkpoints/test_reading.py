"""A file and a folder of shards read the same; what is incomplete or no checkpoint is refused."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from kdlight.checkpoints import read_checkpoint, read_metadata, read_remote, weight_shapes
from tests.support.saved_run import cut, save_run, sharded


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short run."""
    return save_run(tmp_path_factory.mktemp("saved"))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
def test_a_folder_of_shards_reads_as_a_file_does(saved: Path, tmp_path: Path) -> None:
    a, b = read_checkpoint(saved), read_checkpoint(sharded(saved, tmp_path / "folder"))
    assert a.keys() == b.keys()
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for name, value in a["state_dict"].items():
        torch.testing.assert_close(value, b["state_dict"][name], rtol=0, atol=0)
    assert weight_shapes(saved) == weight_shapes(tmp_path / "folder")


CUTS = {
    "end of the file": (lambda path: cut(path), "its end is missing"),
    "end of the facts": (lambda path: cut(path / "meta.pt"), "end of 'meta.pt' is missing"),
    "the facts": (lambda path: (path / "meta.pt").unlink(), "'meta.pt' is missing"),
    "end of a shard": (lambda path: cut(path / "__0_0.distcp"), "end of '__0_0.distcp' is missing"),
    "a shard": (lambda path: (path / "__0_0.distcp").unlink(), "'__0_0.distcp' is missing"),
}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
@pytest.mark.parametrize(("spoil", "what"), CUTS.values(), ids=CUTS)
def test_a_checkpoint_that_was_cut_short_is_refused(
    spoil: Any, what: str, saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut.ckpt"
    if "end of the file" in what or "its end" in what:
        shutil.copy(saved, path)
    else:
        sharded(saved, path)
    spoil(path)
    with pytest.raises(
        ValueError, match=rf"cut.ckpt' is incomplete: .*{what}.*an older checkpoint"
    ):
        read_checkpoint(path)


NOT_CHECKPOINTS = {
    "a model": ({"weight": torch.ones(2)}, r"is no checkpoint of Lightning: it holds \['weight'\]"),
    "a list": ([1, 2], "is no checkpoint of Lightning: it holds list"),
    "an object": ({"state_dict": {}, "a": Path("a")}, "cannot be loaded with weights_only=True"),
}


@pytest.mark.parametrize(("content", "message"), NOT_CHECKPOINTS.values(), ids=NOT_CHECKPOINTS)
def test_another_file_is_refused_with_its_path(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=f"other.ckpt' {message}"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(ValueError, match="a.ckpt' is incomplete: its end is missing"):
        read_metadata(tmp_path / "a.ckpt")


def test_a_remote_checkpoint_is_read_as_plain_data(saved: Path) -> None:
    with fsspec.open("memory://run/a.ckpt", "wb") as file:
        file.write(saved.read_bytes())  # type: ignore[union-attr]
    assert read_remote("memory://run/a.ckpt")["kdlight"] == read_metadata(saved)["kdlight"]
    with fsspec.open("memory://run/b.ckpt", "wb") as file:
        torch.save({"a": Path("a")}, file)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="memory://run/b.ckpt' cannot be loaded"):
        read_remote("memory://run/b.ckpt")
