"""No flipped bit is read as another weight."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.checkpoints import read_checkpoint, verify_checksums
from tests.support.saved_run import flip, save_run, sharded

pytestmark = pytest.mark.filterwarnings(
    "ignore:torch.distributed is disabled, unavailable or uninitialized",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # an unpickler that reads damaged bytes
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short run."""
    return save_run(tmp_path_factory.mktemp("saved"))


def plain(value: Any) -> Any:
    """Compare tensors by their content."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def result(path: Path) -> tuple[str, Any]:
    """Read a checkpoint; return the error, or the content."""
    try:
        return "", read_checkpoint(path)
    except ValueError as error:
        return str(error), None


FILES = {
    "a file": "",
    "the facts of a folder": "meta.pt",
    "the places of a folder": ".metadata",
    "a shard": "__0_0.distcp",
}


@pytest.mark.parametrize("name", FILES.values(), ids=FILES)
def test_a_flipped_bit_is_refused_or_without_effect(name: str, saved: Path, tmp_path: Path) -> None:
    """400 bits, one at a time; before there were checksums, some of them changed weights."""
    path = tmp_path / "a.ckpt"
    if name:
        sharded(saved, path)
    else:
        shutil.copy(saved, path)
    target = path / name if name else path
    whole, generator = plain(read_checkpoint(path)), random.Random(0)
    content, refused = target.read_bytes(), 0
    for _ in range(400):
        flip(target, generator.randrange(len(content) * 8))
        message, read = result(path)
        refused += read is None
        # a name in `.metadata` may differ; then the weights do not fit the module
        if read is None:
            assert str(path) in message
        elif plain(read) != whole:
            assert read["state_dict"].keys() != whole["state_dict"].keys()
        target.write_bytes(content)
    assert refused >= 100


def test_a_damaged_record_is_named(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    shutil.copy(saved, path)
    verify_checksums(path)
    content = path.read_bytes()
    weight = torch.load(path, weights_only=True)["state_dict"]["student.embed.weight"]
    flip(path, 8 * content.index(weight.numpy().tobytes()) + 3)
    with pytest.raises(ValueError, match=r"a.ckpt' is damaged: '.*/data/\d+' is not what was"):
        verify_checksums(path)
    path.write_bytes(content)
    verify_checksums(path)


def test_a_file_without_checksums_is_accepted(tmp_path: Path) -> None:
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes checksums")
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"state_dict": {"a": torch.ones(3), "b": torch.ones(0)}}, tmp_path / "a.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    verify_checksums(tmp_path / "a.ckpt")


def test_ranks_share_the_shards(saved: Path, tmp_path: Path) -> None:
    path = sharded(saved, tmp_path / "a.ckpt")
    weight = torch.load(saved, weights_only=True)["state_dict"]["student.embed.weight"]
    shard = path / "__0_0.distcp"
    flip(shard, 8 * shard.read_bytes().index(weight.numpy().tobytes()))
    verify_checksums(path, share=(1, 2))  # of one shard, this rank has none
    with pytest.raises(ValueError, match="of '__0_0.distcp' is not what was written"):
        verify_checksums(path, share=(0, 2))
