"""The manifest: what a cache was made of, and which shards it has."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kdlight.cache.shards import write_atomically

FORMAT = 1
NAME = "manifest.json"
MADE_OF = ("teacher", "tokenizer", "vocabulary", "settings")
"""What two runs must share to write one cache."""


@dataclass
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        teacher: ``name`` and fingerprint of the ``weights``.
        tokenizer: fingerprints of the ``vocabulary`` and the chat ``template``.
        data: their ``name``; when complete, how many ``sequences`` and ``positions`` there are, and
            a ``fingerprint`` of all of them.
        vocabulary: number of columns V.
        settings: ``k``, ``top_p`` and ``bits``.
        per_token: whether a row has many positions, ``(B, T)``, or is one, ``(B,)``.
        complete: whether all data were seen.
        shards: bytes of each, by file name.
    """

    teacher: dict[str, Any]
    tokenizer: dict[str, Any]
    data: dict[str, Any]
    vocabulary: int
    settings: dict[str, Any]
    per_token: bool = True
    complete: bool = False
    shards: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def owner(self) -> str:
        """What shards know it by: the same for whatever was made of the same."""
        parts = json.dumps([getattr(self, name) for name in MADE_OF], sort_keys=True)
        return blake2b(parts.encode(), digest_size=8).hexdigest()

    def write(self, folder: Path) -> None:
        """Write it into ``folder``, whole or not at all."""
        write_atomically(folder / NAME, json.dumps(asdict(self), indent=2).encode())

    def differences(self, other: Manifest) -> list[str]:
        """In what two caches differ, in words: this one first."""
        return [
            f"{name}: {getattr(self, name)} against {getattr(other, name)}"
            for name in MADE_OF
            if getattr(self, name) != getattr(other, name)
        ]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the cache in ``folder``.

    Raises:
        ValueError: there is none, or one of a later format.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Manifest({"name": "a model"}, {}, {}, vocabulary=5, settings={}).write(Path(folder))
        ...     read_manifest(Path(folder)).vocabulary
        5
    """
    path = folder / NAME
    if not path.is_file():
        raise ValueError(
            f"no cache in {str(folder)!r}: it has no {NAME}. Write one with"
            " `kdlight cache --config CONFIG --output FOLDER`"
        )
    content = json.loads(path.read_text())
    if content.get("format") != FORMAT:
        raise ValueError(
            f"the cache in {str(folder)!r} has format {content.get('format')}, this version of"
            f" kdlight reads {FORMAT}"
        )
    known = {each.name for each in fields(Manifest)}
    return Manifest(**{name: value for name, value in content.items() if name in known})
