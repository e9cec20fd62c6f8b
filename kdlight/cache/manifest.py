"""The manifest of a cache: its teacher, data and settings, and its shards."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kdlight.cache.shards import write_atomically

FORMAT = 1
NAME = "manifest.json"
IDENTITY = ("teacher", "tokenizer", "vocabulary", "settings")
"""Fields that must be equal for two runs to write to one cache."""


@dataclass
class Manifest:
    """The content of ``manifest.json``.

    Attributes:
        teacher: ``name`` and fingerprint of the ``weights``.
        tokenizer: fingerprints of the ``vocabulary`` and the chat ``template``.
        data: the ``name`` of the data; if complete, the numbers of ``sequences`` and ``positions``,
            and a ``fingerprint`` of all sequences.
        vocabulary: width V of the logits.
        settings: ``k``, ``top_p`` and ``bits``.
        per_token: whether a row of a batch has many positions, ``(B, T)``, or one, ``(B,)``.
        complete: whether all data were written.
        shards: number of bytes of each shard, by file name.
        format: version of the format.
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
        """Hash of the fields in `IDENTITY`, written to each shard."""
        parts = json.dumps([getattr(self, name) for name in IDENTITY], sort_keys=True)
        return blake2b(parts.encode(), digest_size=8).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the manifest to ``folder``, atomically."""
        write_atomically(folder / NAME, json.dumps(asdict(self), indent=2).encode())

    def differences(self, other: Manifest) -> list[str]:
        """Describe the fields in which two caches differ; the value of this one comes first."""
        return [
            f"{name}: {getattr(self, name)} and {getattr(other, name)}"
            for name in IDENTITY
            if getattr(self, name) != getattr(other, name)
        ]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the cache in ``folder``.

    Raises:
        ValueError: If there is none, or it has another format.

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
            f"the cache in {str(folder)!r} has format {content.get('format')}, but this version of"
            f" kdlight reads format {FORMAT}; write the cache again"
        )
    known = {each.name for each in fields(Manifest)}
    return Manifest(**{name: value for name, value in content.items() if name in known})
