"""Training and validation data, split by document and by prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256
from math import ceil
from numbers import Real
from typing import TypeVar

import torch
from torch import Tensor

from kdlight.checks import check_type

Item = TypeVar("Item")


def check_validation_fraction(fraction: float) -> None:
    """Raise an error for a fraction that leaves no training or no validation data.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not in (0, 1).

    Example:
        >>> check_validation_fraction(1.0)
        Traceback (most recent call last):
        ValueError: validation_fraction must be in (0, 1), got 1.0
    """
    check_type("validation_fraction", fraction, Real, "a number")
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"validation_fraction must be in (0, 1), got {fraction}")


def shuffle(items: Sequence[Item], *, seed: int) -> list[Item]:
    """Return the items in a random order that depends on their number and the seed only.

    Example:
        >>> sorted(shuffle(["a", "b", "c"], seed=0))
        ['a', 'b', 'c']
    """
    generator = torch.Generator().manual_seed(seed)
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


def split_documents(
    documents: Sequence[Tensor], *, fraction: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the first documents that hold ``fraction`` of all tokens, and the remaining ones.

    Example:
        >>> first, others = split_documents([torch.zeros(n) for n in (2, 3, 5, 10)], fraction=0.2)
        >>> len(first), len(others)
        (2, 2)
    """
    wanted = fraction * sum(map(len, documents))
    total = 0
    for index, document in enumerate(documents):
        if total >= wanted:
            return list(documents[:index]), list(documents[index:])
        total += len(document)
    return list(documents), []


def sample_prompts(prompt_ids: Collection[str], fraction: float, seed: int) -> set[str]:
    """Return a random fraction of the prompts, rounded up.

    Prompts are ordered by a hash of the seed and their id, so the order of ``prompt_ids`` does not
    matter.

    Example:
        >>> sample_prompts("abcd", 0.5, seed=0) == sample_prompts("dcba", 0.5, seed=0)
        True
    """
    order = sorted(prompt_ids, key=lambda name: sha256(f"{seed}:{name}".encode()).digest())
    return set(order[: ceil(fraction * len(prompt_ids))])
