"""The folder of a cache: what may be written to, and when it is complete."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from kdlight.cache.manifest import NAME, Manifest, read_manifest
from kdlight.cache.shards import PATTERN, UNFINISHED, Shard, is_intact
from kdlight.cache.size import megabytes


def prepare_folder(folder: Path, manifest: Manifest) -> None:
    """See that ``folder`` may be written to, and write the manifest of a cache that begins.

    Raises:
        ValueError: it holds a complete cache, one of something else, or other files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(UNFINISHED):  # of a process that was killed while it wrote
        rest.unlink()
    if not (folder / NAME).is_file():
        if any(folder.iterdir()):
            raise ValueError(f"output {str(folder)!r} is not empty, and holds no cache")
        manifest.write(folder)
        return
    before = read_manifest(folder)
    if before.complete:
        raise ValueError(
            f"output {str(folder)!r} holds a complete cache, which is not written over; remove it"
            " or choose another folder"
        )
    if different := before.differences(manifest):
        raise ValueError(
            f"output {str(folder)!r} holds the beginning of another cache (it against this run):"
            f" {'; '.join(different)}"
        )
    for path in folder.glob(PATTERN):
        if not is_intact(path):
            path.unlink()  # a disk that failed, since a shard is named when it is whole


def complete(folder: Path, manifest: Manifest) -> None:
    """Take stock of the shards, and call the cache complete."""
    shards = [Shard(path, owner=manifest.owner) for path in sorted(folder.glob(PATTERN))]
    digest = blake2b(digest_size=16)
    keys = {bytes(key) for shard in shards for key in shard.keys}
    for key in sorted(keys):
        digest.update(key)
    manifest.data |= {
        "sequences": len(keys),
        "positions": sum(shard.positions for shard in shards),
        "fingerprint": digest.hexdigest(),
    }
    manifest.shards = {shard.path.name: shard.path.stat().st_size for shard in shards}
    manifest.complete = True
    manifest.write(folder)
    size, positions = sum(manifest.shards.values()), manifest.data["positions"]
    rank_zero_info(
        f"Cache complete: {len(keys)} sequences, {positions} positions, {megabytes(size)}"
        f" ({size / max(positions, 1):.0f} bytes a position) in {folder}"
    )
