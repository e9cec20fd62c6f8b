"""The manifest of a cache: its teacher, data and settings, and its shards."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kdlight.cache.layout import PLACES, Layout, Place
from kdlight.cache.settings import Settings
from kdlight.cache.shards import PATTERN, write_atomically
from kdlight.data.targets import LABEL_RULES, LabelRule
from kdlight.losses.labels import IGNORE_INDEX

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
        data: the ``name`` of the data; for traces, who they were ``written_by``; if complete, the
            numbers of ``sequences`` and ``positions``, and a ``fingerprint`` of all sequences.
        vocabulary: width V of the logits.
        settings: ``k``, ``top_p`` and ``bits``.
        per_token: whether a row of a batch has many positions, ``(B, T)``, or one, ``(B,)``.
        labels: the rule of the labels, and the ``ignore_index``, see
            `kdlight.cache.layout.Layout`.
        ignore_index: see ``labels``.
        place: where the logits stand, and the shape of their ``positions`` if that is the row;
            None in caches before there was a choice.
        positions: see ``place``.
        image_tokens: ids of tokens that stand for an image.
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
    labels: LabelRule = "causal"
    ignore_index: int = IGNORE_INDEX
    place: Place | None = None
    positions: tuple[int, ...] = ()
    image_tokens: tuple[int, ...] = ()
    complete: bool = False
    shards: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def layout(self) -> Layout:
        """Where the logits stand in the rows of a batch."""
        place = self.place or ("tokens" if self.per_token else "row")
        return Layout(self.labels, self.ignore_index, place, self.positions, self.image_tokens)

    @property
    def owner(self) -> str:
        """Hash of the fields in `IDENTITY`, written to each shard."""
        values = [getattr(self, name) for name in IDENTITY]
        rule = (self.labels, self.ignore_index)
        if rule != ("causal", IGNORE_INDEX):  # which is the one that older caches have
            values.extend(rule)
        parts = json.dumps(values, sort_keys=True)
        return blake2b(parts.encode(), digest_size=8).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the manifest to ``folder``, atomically."""
        write_atomically(folder / NAME, json.dumps(asdict(self), indent=2).encode())

    def differences(self, other: Manifest) -> list[str]:
        """Describe the fields in which two caches differ; the value of this one comes first."""
        pairs = {
            name: (getattr(self, name), getattr(other, name))
            for name in (*IDENTITY, "labels", "ignore_index")
        }
        pairs["written_by"] = (self.data.get("written_by"), other.data.get("written_by"))
        return [
            f"{name}: {one} and {another}"
            for name, (one, another) in pairs.items()
            if one != another
        ]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the cache in ``folder``.

    Raises:
        ValueError: If there is none, it has another format, or it is damaged.

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
    return _parse(path)


def _parse(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise _damaged(path, f"it holds no JSON: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds a {type(content).__name__}, not an object")
    if content.get("format") != FORMAT:
        raise ValueError(
            f"the cache in {str(path.parent)!r} has format {content.get('format')}, but this"
            f" version of kdlight reads format {FORMAT}; write the cache again"
        )
    known = {each.name for each in fields(Manifest)}
    given = {name: value for name, value in content.items() if name in known}
    for name in ("positions", "image_tokens"):  # JSON has no tuples
        if isinstance(given.get(name), list):
            given[name] = tuple(given[name])
    try:
        manifest = Manifest(**given)
    except TypeError as error:
        raise _damaged(path, str(error)) from error
    if fault := _fault(manifest):
        raise _damaged(path, fault)
    return manifest


def _damaged(path: Path, fault: str) -> ValueError:
    return ValueError(
        f"the manifest {str(path)!r} is damaged: {fault}; write the cache again to another folder"
    )


def _fault(manifest: Manifest) -> str | None:
    """Describe the first field that is of no use to a reader; None if there is none."""
    sizes = manifest.shards.items() if isinstance(manifest.shards, dict) else [(None, None)]
    right = {
        "teacher": isinstance(manifest.teacher, dict),
        "tokenizer": isinstance(manifest.tokenizer, dict),
        "data": isinstance(manifest.data, dict),
        "vocabulary": type(manifest.vocabulary) is int and manifest.vocabulary > 0,
        "settings": _are_settings(manifest.settings),
        "per_token": isinstance(manifest.per_token, bool),
        "labels": manifest.labels in LABEL_RULES,
        "ignore_index": type(manifest.ignore_index) is int,
        "place": manifest.place in (None, *PLACES),
        "positions": _are_integers(manifest.positions),
        "image_tokens": _are_integers(manifest.image_tokens),
        "complete": isinstance(manifest.complete, bool),
        "shards": all(
            isinstance(name, str) and Path(name).match(PATTERN) and Path(name).name == name
            and type(size) is int
            for name, size in sizes
        ),
    }  # fmt: skip
    wrong = [name for name, is_right in right.items() if not is_right]
    return f"{wrong[0]!r} is {getattr(manifest, wrong[0])!r}"[:200] if wrong else None


def _are_settings(values: object) -> bool:
    try:
        Settings(**values).check()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _are_integers(values: object) -> bool:
    return isinstance(values, tuple) and all(type(each) is int for each in values)
