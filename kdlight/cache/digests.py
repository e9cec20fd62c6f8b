"""Hashes of content: tensors, numbers, texts, and collections of these."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEY_BYTES = 16


class ContentDigest:
    """The hash of some tensors, and of further entries by name.

    Example:
        >>> plain = ContentDigest(torch.tensor([1, 2]))
        >>> plain.key() == hash_tensor(torch.tensor([1, 2]))
        True
        >>> plain.add("source", "a")
        >>> plain.key() == hash_tensor(torch.tensor([1, 2]))
        False
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._hash = blake2b(digest_size=KEY_BYTES)
        for tensor in tensors:
            self._add_tensor(tensor)

    def key(self) -> bytes:
        """Return the hash."""
        return self._hash.digest()

    def add(self, name: str, value: Any) -> None:
        """Add an entry.

        Raises:
            TypeError: If it is neither a tensor, a number, a text, nor a collection of these.
        """
        self._text(f"<{name}>")
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            self._add_tensor(value)
        elif isinstance(value, Mapping):
            for key in sorted(value, key=str):
                self.add(str(key), value[key])
        elif isinstance(value, (list, tuple)):
            for number, each in enumerate(value):
                self.add(str(number), each)
        elif value is None or isinstance(value, (str, bytes, bool, int, float, complex)):
            self._text(f"{type(value).__name__}:{value!r}")
        else:
            raise TypeError(
                f"entry {name!r} of the batch is a {type(value).__name__}, of which a cache cannot"
                " tell whether it is the same in another batch; give the teacher tensors, or take"
                " the entry out of the batch"
            )
        self._text("</>")

    def _text(self, text: str) -> None:
        self._hash.update(text.encode("utf-8", "surrogatepass"))

    def _add_tensor(self, tensor: Tensor) -> None:
        self._text(f"{tensor.dtype}{tuple(tensor.shape)}")
        plain = tensor.detach().cpu()
        if plain.layout != torch.strided:
            plain = plain.to_dense()
        # as bytes, since numpy has no bfloat16
        data = plain.resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8)
        self._hash.update(data.numpy().tobytes())


def hash_tensor(tensor: Tensor) -> bytes:
    """Return the hash of a tensor: its dtype, its shape and its content."""
    return ContentDigest(tensor).key()
