"""The depths that an optimizer step trains."""

from __future__ import annotations

from hashlib import sha256

import torch


def sandwich(smallest: int, largest: int, *, random: int, seed: int, step: int) -> list[int]:
    """Return the depths of the micro-batches of one optimizer step, the largest last.

    The sandwich rule of Yu, Huang, "Universally Slimmable Networks and Improved Training
    Techniques", 2019: the largest, the smallest and some random ones. These are drawn from those in
    between, each at most once. They depend on the seed and the step alone, so that all ranks and a
    resumed run draw the same.

    Args:
        smallest: the smallest number of layers.
        largest: the largest.
        random: how many to draw.
        seed: seed of the draw.
        step: number of completed optimizer steps.

    Example:
        >>> sandwich(4, 10, random=2, seed=0, step=0)
        [9, 7, 4, 10]
    """
    # a hash, so that the seeds of steps are not correlated
    digest = sha256(f"{seed}:{step}".encode()).hexdigest()[:15]
    generator = torch.Generator().manual_seed(int(digest, 16))
    order = torch.randperm(largest - smallest - 1, generator=generator)[:random]
    return [*(order + smallest + 1).tolist(), smallest, largest]
