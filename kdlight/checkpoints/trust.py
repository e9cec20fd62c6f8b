"""What a config from a checkpoint would import or run, beyond kdlight and torch.

A checkpoint is a file that may come from anywhere. Its tensors and numbers are read as plain data.
Its hyper-parameters are a config, from which networks are built: a config names classes, which are
imported, and may ask a model for code of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

import yaml

TRUSTED = ("kdlight.", "torch.nn.", "torch.optim.")
"""Where a checkpoint may take classes from."""

REMOTE_CODE = ("trust_remote_code", "custom_code", "custom_generate")
"""Options of a model that make it run code from its folder or from a hub."""

DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
MAX_CONFIG = 2**20
"""Bytes of a file that may be a config; the files of models are larger."""


def check_trusted(
    config: Any, *, trust: bool = False, known: Any = None, flag: str = "--trust"
) -> list[str]:
    """Return what a config from a checkpoint would import or run, if that is trusted.

    Args:
        config: the hyper-parameters of a checkpoint.
        trust: whether the user trusts the file.
        known: a config that the user wrote; what it names as well is trusted.
        flag: how trust is declared, for the message.

    Raises:
        ValueError: It would import or run anything, and ``trust`` is False.

    Example:
        >>> check_trusted({"class_path": "kdlight.CausalLM", "init_args": {"source": "a/b"}})
        []
        >>> check_trusted({"options": {"trust_remote_code": True}})
        Traceback (most recent call last):
        ValueError: the checkpoint would run code that it names: options.trust_remote_code: True...
    """
    own = {entry for _, entry in named_code(known)}
    named = [f"{key}: {code}" for key, code in named_code(config) if code not in own]
    if named and not trust:
        raise ValueError(
            f"the checkpoint would run code that it names: {'; '.join(named)}. If you know where"
            f" the file comes from, and this code, add {flag}"
        )
    return named


def named_code(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys and values of a config that would import or run other code.

    Nothing is imported to find out, except from kdlight, ``torch.nn`` and ``torch.optim``.

    Example:
        >>> list(named_code({"student": {"class_path": "email.message.Message"}}))
        [('student.class_path', 'email.message.Message')]
    """
    if isinstance(config, Mapping):
        for name, value in config.items():
            inner = f"{key}.{name}" if key else str(name)
            if str(name).rpartition(".")[2] in REMOTE_CODE and not _is_false(value):
                yield inner, str(value)
            yield from named_code(str(name), f"the name of {inner}")
            yield from named_code(value, inner)
    elif isinstance(config, (list, tuple, set, frozenset)):
        for index, value in enumerate(config):
            yield from named_code(value, f"{key}[{index}]")
    elif isinstance(config, str):
        yield from _named_in_text(config, key)


def _named_in_text(text: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield what a string names: a class, a config within it, or the file of one."""
    if "${" in text:  # a part of a config, which may form a name together with others
        yield key, text
        return
    parsed = _parse(text)
    if not isinstance(parsed, str):
        yield from named_code(parsed, key)
    elif DOTTED.fullmatch(text):
        if not _is_trusted(text) and _is_importable(text):
            yield key, text
    elif "[" in text or "(" in text:  # a type, such as list[a.B]
        for name in DOTTED.findall(text):
            if not _is_trusted(name) and _is_importable(name):
                yield key, name
    if _is_config_file(text):
        yield key, text


def _is_trusted(name: str) -> bool:
    """Return whether a name leads to a class or a function of a trusted package."""
    if not name.startswith(TRUSTED):
        return False
    try:
        found = locate(name)
    except ErrorDuringImport:
        return False
    home = getattr(found, "__module__", None) or getattr(found, "__name__", "")
    # not to what such a package imports itself
    return found is None or f"{home}.".startswith(TRUSTED)


def _is_importable(name: str) -> bool:
    """Return whether a dotted name leads into a module; others are no names of code.

    A folder without ``__init__.py`` is a package as well, but holds nothing except modules: beside
    a folder ``model``, ``model.gguf`` is still a file.
    """
    first, _, rest = name.partition(".")
    try:
        spec = find_spec(first)
    except (ImportError, ValueError):
        return True  # such as a module that is in the middle of an import
    if spec is None or spec.origin is not None or spec.submodule_search_locations is None:
        return spec is not None
    inner = f"{first}.{rest.partition('.')[0]}"
    return PathFinder.find_spec(inner, list(spec.submodule_search_locations)) is not None


def _parse(text: str) -> Any:
    if not any(sign in text for sign in ":[{-\n"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _is_config_file(text: str) -> bool:
    """Return whether a text is the path of a file from which a parser would read a config."""
    if not text or len(text) > 1000 or "\0" in text:
        return False
    path = Path(text)
    try:
        if not path.is_file() or path.stat().st_size > MAX_CONFIG:
            return False
        return isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, yaml.YAMLError):
        return False


def _is_false(value: Any) -> bool:
    return str(value).lower() in ("false", "none", "null", "no", "off", "0", "")
