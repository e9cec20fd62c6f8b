"""Tensors and texts as bytes in which any change is noticed: safetensors with a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

FIELD = b'"checksum":"'
EMPTY = b"0" * 32
"""Stands in the place of the checksum while it is computed."""


class Opened(NamedTuple):
    """What `open_sealed` reads.

    Attributes:
        fields: texts by name.
        tensors: tensors by name.
        checksum: hash of the bytes, which identifies them.
    """

    fields: dict[str, str]
    tensors: dict[str, Tensor]
    checksum: str


def seal(tensors: Mapping[str, Tensor], fields: Mapping[str, str]) -> bytes:
    """Return a safetensors file of ``tensors``, with ``fields`` and a checksum as its metadata.

    The checksum is the blake2b hash, of 16 bytes, of the whole file with zeros in its place.

    Example:
        >>> import torch
        >>> content = seal({"a": torch.ones(2)}, {"kind": "example"})
        >>> open_sealed(content).fields
        {'kind': 'example'}
    """
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain, {**fields, "checksum": EMPTY.decode()})
    start = content.index(FIELD) + len(FIELD)
    return content[:start] + _hash(content, start).encode() + content[start + len(EMPTY) :]


def open_sealed(content: bytes) -> Opened:
    """Return what `seal` has put into ``content``.

    Raises:
        ValueError: the bytes are cut, changed, or something else.

    Example:
        >>> open_sealed(b"<html>not found</html>")
        Traceback (most recent call last):
        ValueError: 22 bytes that are no message of kdlight, or are cut: b'<html>not found</html>'
    """
    try:
        size = int.from_bytes(content[:8], "little")
        head = content[8 : 8 + size]
        start = 8 + head.index(FIELD) + len(FIELD)
        fields = json.loads(head)["__metadata__"]
        checksum = fields.pop("checksum")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{len(content)} bytes that are no message of kdlight, or are cut: {content[:40]!r}"
        ) from error
    if checksum != _hash(content, start):
        raise ValueError(
            f"{len(content)} bytes that were changed or cut on the way: their checksum is not the"
            " one within them"
        )
    try:
        return Opened(fields, safetensors.torch.load(content), checksum)
    except (SafetensorError, ValueError, LookupError) as error:
        raise ValueError(f"tensors that cannot be read: {error}") from error


def _hash(content: bytes, start: int) -> str:
    digest = blake2b(digest_size=len(EMPTY) // 2)
    view = memoryview(content)
    for part in (view[:start], EMPTY, view[start + len(EMPTY) :]):
        digest.update(part)
    return digest.hexdigest()
