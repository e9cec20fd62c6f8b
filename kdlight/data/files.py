"""Text files and JSON lines, named by a path or a glob."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdlight.checks import check_type
from kdlight.models.package_files import PACKAGE, files_in_package

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes half of a character of two 16-bit units."""


def file_names(argument: str, files: Any) -> list[str]:
    """Return the names in ``files``, which is a name or a list of names.

    Raises:
        TypeError: If it is neither.
        ValueError: If the list is empty.

    Example:
        >>> file_names("files", "a.txt")
        ['a.txt']
    """
    check_type(argument, files, (str, list, tuple), "a name or a list of names")
    names = [files] if isinstance(files, str) else list(files)
    if not names:
        raise ValueError(f"{argument} must name at least one file, got []")
    for name in names:
        check_type(argument, name, str, "a name or a list of names, as texts")
    return names


def matching_files(pattern: str) -> list[Path]:
    """Return the files that a path or a glob names, sorted; ``package:NAME/GLOB`` in a package.

    A path without wildcards is returned even if it does not exist, and so is a path that exists
    and has wildcards in its name, such as ``a[1].txt``. Folders that a glob matches along with
    other paths (``**`` does) are left out.

    Raises:
        ValueError: If no path matches the glob.
    """
    if pattern.startswith(PACKAGE):
        paths = files_in_package(pattern, argument="files")
        if not paths:
            raise ValueError(f"files: no file of the package matches {pattern!r}")
        return paths
    pattern = str(Path(pattern).expanduser())
    if not glob.has_magic(pattern) or os.path.exists(pattern):
        return [Path(pattern)]
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    if not paths:
        raise ValueError(f"files: no file matches {pattern!r}")
    return paths if len(paths) == 1 else [path for path in paths if not path.is_dir()]


def read_text(path: Path) -> str:
    """Return the text of a file, without the byte order mark that some programs write before it.

    Raises:
        ValueError: If ``path`` is missing, a folder, empty, or not UTF-8 text.
    """
    if path.is_dir():
        raise ValueError(f"files: {path} is a folder; name the files in it with a glob")
    if not path.is_file():
        raise ValueError(f"files: {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"files: {path} is not UTF-8 text, line {line}: {error}") from error
    except OSError as error:
        raise ValueError(f"files: {path} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise ValueError(f"files: {path} is empty")
    return text


def read_json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the location, "PATH, line N", and the object of each line that is not blank.

    Raises:
        ValueError: If the file cannot be read, or a line is not a JSON object.
    """
    # not splitlines(), which also splits at separators that JSON allows inside a string
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        location = f"{path}, line {number}"
        try:
            row = json.loads(line)
            if SURROGATE.search(line):
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            surrogate = error.object[error.start]
            raise ValueError(
                f"files: {location} has the lone surrogate {surrogate!r}, which is no character"
            ) from error
        except (ValueError, RecursionError) as error:  # such as numbers of 5,000 digits
            raise ValueError(f"files: {location} is not JSON that can be read: {error}") from error
        if not isinstance(row, Mapping):
            raise ValueError(f"files: {location} must be a JSON object, got {type(row).__name__}")
        yield location, row
