"""A short text that tells the weights of two models apart."""

from __future__ import annotations

from hashlib import sha256

from torch import nn

VALUES = 64
"""Number of values that are read of each parameter."""


def hash_weights(model: nn.Module) -> str:
    """Return a hash of the first values of each parameter, the same on all devices.

    A model that is trained further has another one, wherever it is saved.

    Example:
        >>> model = nn.Linear(2, 3)
        >>> before = hash_weights(model)
        >>> _ = model.bias.data.add_(1)
        >>> hash_weights(model) == before
        False
    """
    digest = sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()[:VALUES].float().tolist()
        digest.update(f"{name} {tuple(parameter.shape)} {values}\n".encode())
    return digest.hexdigest()[:16]
