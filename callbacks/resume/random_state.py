"""The states of the global random generators of a process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device | None = None) -> dict[str, Any]:
    """Return the states of the generators of torch, ``device``, NumPy and Python.

    They consist of tensors, numbers, strings and tuples only, so that a checkpoint with them can
    be read by ``torch.load(weights_only=True)``.

    Example:
        >>> state = random_state()
        >>> first = torch.rand(2), random.random()
        >>> set_random_state(state)
        >>> torch.equal(torch.rand(2), first[0]), random.random() == first[1]
        (True, True)
    """
    numpy: Any = np.random.get_state(legacy=False)
    state = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": {
            "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "position": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        },
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Restore the states returned by `random_state`."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    numpy = state["numpy"]
    key = numpy["key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
    if device is not None and device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
