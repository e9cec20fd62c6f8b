"""The token of a server, from an environment variable: it stands in no config, log or file."""

from __future__ import annotations

import os
import re

from kdlight.checks import check_type

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_variable(name: str | None) -> None:
    """Raise an error for what is no name of an environment variable, such as a token itself.

    Raises:
        TypeError: ``name`` is no string.
        ValueError: it is no name. The message does not repeat it, as it may be the token.

    Example:
        >>> check_variable("sk-1234")
        Traceback (most recent call last):
        ValueError: token_variable must be the name of an environment variable, such as ...
    """
    check_type("token_variable", name, (str, type(None)), "the name of a variable or None")
    if name is not None and not NAME.fullmatch(name):
        raise ValueError(
            "token_variable must be the name of an environment variable, such as TEACHER_TOKEN, and"
            " not a token itself; put the token into the variable, and its name here"
        )


def read_token(name: str | None) -> str | None:
    """Return the value of an environment variable; None if no name is given.

    Raises:
        ValueError: the variable is not set, or empty, or has more than a token.

    Example:
        >>> read_token(None) is None
        True
    """
    if name is None:
        return None
    token = os.environ.get(name, "").strip()
    if not token:
        raise ValueError(
            f"token_variable is {name!r}, but the environment variable {name} is not set in this"
            f" process; export {name}=... before the run, on every node"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        # the message does not repeat it
        raise ValueError(
            f"the environment variable {name} has a token with blanks, line breaks or other"
            " characters that cannot be sent; put nothing but the token into it"
        )
    return token
