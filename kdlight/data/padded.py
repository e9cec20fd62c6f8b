"""Evaluation data padded to a multiple of the number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import torch
from torch.utils.data import Dataset

from kdlight.checks import check_integer
from kdlight.losses.labels import IGNORE_INDEX


class PaddedToWorldSize(Dataset):
    """A dataset followed by ignored samples, so that all ranks get the same number of samples.

    Lightning divides the samples of an evaluation among ranks. If they do not divide evenly, it
    repeats some, which would be counted twice. Here the padding is the first sample with labels
    -100: all ranks have the same number of batches, and every sample is counted once.

    Args:
        dataset: samples that are dicts with ``labels`` or pairs ``(x, labels)``.
        ranks: number of ranks.

    Raises:
        ValueError: If ``ranks`` is below 1; when a sample is read, if samples without labels do not
            divide evenly.

    Example:
        >>> data = PaddedToWorldSize([(torch.ones(2), torch.tensor(5))] * 3, ranks=2)
        >>> len(data), data[3]
        (4, (tensor([1., 1.]), tensor(-100)))
    """

    def __init__(self, dataset: Any, *, ranks: int) -> None:
        check_integer("ranks", ranks, 1)
        self.dataset = dataset
        self.ranks = ranks

    def __len__(self) -> int:
        return ceil(len(self.dataset) / self.ranks) * self.ranks

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index < len(self.dataset):
            return self.dataset[index]
        sample = self.dataset[0]
        if isinstance(sample, Mapping) and "labels" in sample:
            return {**sample, "labels": torch.full_like(sample["labels"], IGNORE_INDEX)}
        if not isinstance(sample, (tuple, list)) or len(sample) != 2:
            raise ValueError(
                f"{len(self.dataset)} samples do not divide evenly among {self.ranks} ranks, and a"
                " sample without labels cannot be repeated without counting twice; add labels, or"
                " leave out samples"
            )
        x, labels = sample
        return x, torch.full_like(labels, IGNORE_INDEX)
