"""Reading a folder of shards runs nothing that a file in it names."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex

from kdlight.checkpoints import check_complete, read_checkpoint, weight_shapes
from kdlight.checkpoints.shards import METADATA, PlainShardReader, check_plain
from tests.support.saved_run import save_run, sharded

pytestmark = pytest.mark.filterwarnings(
    "ignore:torch.distributed is disabled, unavailable or uninitialized"
)


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    return sharded(save_run(folder), folder / "folder.ckpt")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "folder.ckpt"))


def test_the_places_of_a_folder_of_torch_are_plain(folder: Path) -> None:
    check_plain(folder)
    ours = PlainShardReader(folder).read_metadata()
    theirs = pickle.loads((folder / METADATA).read_bytes())
    assert ours.state_dict_metadata == theirs.state_dict_metadata
    assert ours.storage_data == theirs.storage_data


READ = {
    "as a whole": read_checkpoint,
    "shapes": weight_shapes,
    "is it complete": check_complete,
    "before Lightning loads it": check_plain,
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_metadata_that_name_a_function_are_not_unpickled(
    read: Callable[[Path], Any], folder: Path, tmp_path: Path
) -> None:
    (folder / METADATA).write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"folder.ckpt' is not read: .*names \w+\.system"):
        read(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("read", [read_checkpoint, check_plain], ids=["as a whole", "before"])
def test_a_value_in_a_shard_that_names_a_function_is_not_unpickled(
    read: Callable[[Path], Any], folder: Path, tmp_path: Path
) -> None:
    """torch reads values that are not tensors with ``weights_only=False``."""
    torch.save(Runs(tmp_path / "ran"), folder / "extra")
    metadata = pickle.loads((folder / METADATA).read_bytes())
    size = (folder / "extra").stat().st_size
    name = "state_dict.extra"
    metadata.state_dict_metadata[name] = BytesStorageMetadata()
    metadata.planner_data[name] = ("state_dict", "extra")
    metadata.storage_data[MetadataIndex(name)] = _StorageInfo("extra", 0, size)
    (folder / METADATA).write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match=r"its value 'state_dict.extra' is damaged or no plain"):
        read(folder)
    assert not (tmp_path / "ran").exists()


def test_parts_that_are_not_the_whole_are_refused(folder: Path) -> None:
    metadata = pickle.loads((folder / METADATA).read_bytes())
    name = "state_dict.student.embed.weight"
    metadata.state_dict_metadata[name].size = torch.Size([99, 6])
    (folder / METADATA).write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match=f"the parts of '{name}' are not the whole of it"):
        check_complete(folder)


def test_a_shard_outside_of_the_folder_is_refused(folder: Path) -> None:
    metadata = pickle.loads((folder / METADATA).read_bytes())
    index = next(iter(metadata.storage_data))
    metadata.storage_data[index] = _StorageInfo("../secret", 0, 1)
    (folder / METADATA).write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match="'../secret' is outside of the folder"):
        check_complete(folder)
