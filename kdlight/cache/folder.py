"""The folder of a cache: checked before it is written to, and marked as complete afterwards."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from kdlight.cache.manifest import NAME, Manifest, read_manifest
from kdlight.cache.shards import PATTERN, UNFINISHED, Shard, is_intact
from kdlight.cache.size_estimate import megabytes


def prepare_folder(folder: Path, manifest: Manifest) -> None:
    """Check that a cache can be written to ``folder``; write the manifest of a new cache.

    Unfinished and damaged shards are removed.

    Raises:
        ValueError: If the folder cannot be created, or holds a complete cache, another cache, or
            other files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"output {str(folder)!r} cannot be created ({error.strerror}); choose another folder"
        ) from error
    for path in folder.glob(UNFINISHED):  # left by a process that was killed
        path.unlink()
    if not (folder / NAME).is_file():
        if any(folder.iterdir()):
            raise ValueError(
                f"output {str(folder)!r} is not empty and holds no cache; choose another folder"
            )
        manifest.write(folder)
        return
    existing = read_manifest(folder)
    if existing.complete:
        raise ValueError(
            f"output {str(folder)!r} holds a complete cache, which is not overwritten; remove it or"
            " choose another folder"
        )
    if different := existing.differences(manifest):
        raise ValueError(
            f"output {str(folder)!r} holds the beginning of another cache; the folder and this run"
            f" differ in {'; '.join(different)}"
        )
    for path in folder.glob(PATTERN):
        if not is_intact(path):
            path.unlink()  # a shard gets its name when it is complete, so the disk is at fault


def complete(folder: Path, manifest: Manifest) -> None:
    """Write the numbers of sequences and positions to the manifest, and mark it as complete."""
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
        f" ({size / max(positions, 1):.0f} bytes per position) in {folder}"
    )
