"""The packages of a server, which are an extra; this module is imported before all others."""

from __future__ import annotations

from importlib.util import find_spec

PACKAGES = {
    "prometheus_client": "prometheus-client",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
}
"""Modules, and the packages that they are in."""


def check_packages() -> None:
    """Raise a ModuleNotFoundError if a package of a server is not installed.

    Example:
        >>> check_packages()
    """
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ModuleNotFoundError(
            f"kdlight serve needs {' and '.join(missing)}: pip install 'kdlight[serve]'"
        )


check_packages()
