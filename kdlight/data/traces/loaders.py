"""Loaders of traces: like those of text, with a collator that fills up and stacks."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from kdlight.data.padded import PaddedToWorldSize
from kdlight.data.loaders import EpochSampler, ResumableLoader
from kdlight.data.traces.rows import TraceRows, join


def train_batches(
    rows: TraceRows, *, batch_size: int, seed: int, num_workers: int
) -> ResumableLoader:
    """Batches in a new order every epoch; the last one may be smaller, none is left out."""
    return ResumableLoader(
        rows,
        batch_size=batch_size,
        sampler=EpochSampler(len(rows), seed=seed),
        collate_fn=join,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def eval_batches(
    rows: TraceRows, *, trainer: Trainer | None, batch_size: int, num_workers: int
) -> DataLoader:
    """Batches in order; the ranks of ``trainer`` get as many each, and no sample counts twice."""
    ranks = (trainer and trainer.distributed_sampler_kwargs) or {}
    return DataLoader(
        PaddedToWorldSize(rows, ranks=ranks.get("num_replicas", 1)),
        batch_size=batch_size,
        collate_fn=join,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
