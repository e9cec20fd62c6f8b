"""The labels of the weights that a run sends to a server, which no other weights have."""

from __future__ import annotations

import re
import secrets

VERSION = r"[0-9a-f]{8}-\d+"
"""The label of weights: the run, and the optimizer step after which a student had them."""

LOADING = "loading-"


def new_run() -> str:
    """Return a name that no other run has.

    Example:
        >>> is_of_a_run(f"{new_run()}-12")
        True
    """
    return secrets.token_hex(4)


def loading(version: str) -> str:
    """Return the label of a server from before it loads weights until they are compared.

    No text of a server with this label is used, by any run: nobody knows whose weights wrote it.

    Example:
        >>> loading("0a1b2c3d-12")
        'loading-0a1b2c3d-12'
    """
    return LOADING + version


def is_of_a_run(label: str | None) -> bool:
    """Return whether a label tells that a run has changed the weights of a server.

    Example:
        >>> [is_of_a_run(each) for each in ("0a1b2c3d-12", "loading-0a1b2c3d-12", "default", None)]
        [True, True, False, False]
    """
    return label is not None and re.fullmatch(f"({LOADING})?{VERSION}", label) is not None
