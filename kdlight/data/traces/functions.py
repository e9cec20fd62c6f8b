"""Functions by name: those of kdlight, and a user's own in a module or a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def find_function(
    name: str | Callable[..., Any], known: Mapping[str, Callable[..., Any]], *, what: str, does: str
) -> Callable[..., Any]:
    """Return a function by its name in ``known``, ``module:function`` or ``file.py:function``.

    Args:
        name: the name; a function is returned as it is.
        known: functions of kdlight by name.
        what: what the function is, for the message, such as ``"verifier"``.
        does: what it maps to what, for the message, such as ``"from a Trace to a score"``.

    Raises:
        ValueError: There is no such function.

    Example:
        >>> find_function("math:sqrt", {}, what="function", does="of a number")(4)
        2.0
    """
    if callable(name):
        return name
    if name in known:
        return known[name]
    location, _, attribute = name.rpartition(":")  # a path may have a colon, too

    def unknown(reason: str) -> ValueError:
        close = get_close_matches(name, known) or list(known)
        choices = f"known: {', '.join(close)}, or your own" if close else "give your own"
        return ValueError(
            f"no {what} {name!r} ({reason}); {choices} as module:function or file.py:function,"
            f" {does}"
        )

    if not (location and attribute):
        raise unknown("no such name")
    try:
        is_file = location.endswith(".py")
        module = _import_file(Path(location)) if is_file else import_module(location)
        function = getattr(module, attribute)
    except Exception as error:  # the file of a user can fail in any way
        raise unknown(f"{type(error).__name__}: {error}") from error
    if not callable(function):
        raise unknown(f"it is {function!r}, which is no function")
    return function


def _import_file(path: Path) -> Any:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    is_new = path.stem not in sys.modules
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if is_new:
            del sys.modules[path.stem]
        raise
    return module
