"""The random state, kept while something else runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept_random_state(seed: int | None = None) -> Iterator[None]:
    """Restore the random state of PyTorch, numpy and Python afterwards, after an error too.

    Lightning's ``isolate_rng`` does not restore it after an error, and takes seconds to import.

    Args:
        seed: seed of all three within the context; None to go on from their state.

    Example:
        >>> with kept_random_state(seed=0):
        ...     first = torch.rand(())
        >>> with kept_random_state(seed=0):
        ...     bool(torch.rand(()) == first)
        True
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed)
                torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
