"""A short text that tells the weights of two models apart."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import Tensor, nn

VALUES = 256
"""Number of values that are read of each parameter."""

GOLDEN = (5**0.5 - 1) / 2


def hash_weights(model: nn.Module) -> str:
    """Return a hash of values of each parameter and buffer, the same on all devices.

    The values are spread over the whole tensor, so that a model that is trained further, or whose
    weights differ in a part of its rows or columns, has another hash, wherever it is saved.

    That of a cache of logits, `kdlight.cache.fingerprints`, reads entries at equal distances and is
    a part of files on disk, so the two are not one.

    Example:
        >>> model = nn.Linear(2, 3)
        >>> before = hash_weights(model)
        >>> _ = model.bias.data.add_(1)
        >>> hash_weights(model) == before
        False
    """
    digest = sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            flat = tensor.detach().flatten()
            places = torch.tensor(places_of(len(flat)), dtype=torch.long, device=flat.device)
            values = flat[places].cpu().double().tolist()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {values}\n".encode())
    return digest.hexdigest()[:16]


def places_of(size: int, count: int = VALUES) -> list[int]:
    """Return places that are spread over a sequence, all of them if it is short.

    Multiples of the golden ratio leave no large gap, and are not all in one column of a matrix, as
    places at equal distances can be.

    Example:
        >>> places_of(3), places_of(100, count=4)
        ([0, 1, 2], [0, 61, 23, 85])
    """
    if size <= count:
        return list(range(size))
    return [int(number * GOLDEN % 1 * size) for number in range(count)]
