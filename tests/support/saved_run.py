"""A checkpoint of a short run, as a file and as a folder of shards, and ways to spoil it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.distributed.checkpoint.state_dict_saver import save

from kdlight.objectives import ForwardKL
from tests.support import toy


def save_run(folder: Path) -> Path:
    """Train for a step, and return the path of a checkpoint of it."""
    run = toy.trainer(folder, limit_train_batches=1)
    run.fit(toy.module(ForwardKL()), toy.loader(8))
    run.save_checkpoint(folder / "whole.ckpt")
    return folder / "whole.ckpt"


def sharded(checkpoint: Path, folder: Path) -> Path:
    """Return the same as a folder of shards, as FSDP2 writes it."""
    facts = torch.load(checkpoint, weights_only=True)
    save({"state_dict": facts.pop("state_dict")}, checkpoint_id=folder, no_dist=True)
    torch.save(facts, folder / "meta.pt")
    return folder


def cut(path: Path) -> None:
    """Remove the end of a file."""
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)
