"""Whether a server has the tokenizer of the data, by the ids of a text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kdlight.data.traces.tokenizer_hash import PROBE
from kdlight.endpoints import ServerError


def check_probe(ask: Callable[[str], list[int]], tokenizer: Any, server: str) -> None:
    """Raise a ValueError if a server divides a text into other tokens than a tokenizer.

    A server that does not tell is accepted: its answers are still checked for ids out of range.

    Args:
        ask: returns the server's ids of a text, without special tokens.
        tokenizer: the tokenizer of the data.
        server: names the server, for the message.

    Raises:
        ValueError: the ids differ.

    Example:
        >>> class Characters:
        ...     def __call__(self, text, **options):
        ...         return {"input_ids": [ord(character) for character in text]}
        >>> check_probe(lambda text: [ord(each) for each in text], Characters(), "a server")
        >>> check_probe(lambda text: [1, 2], Characters(), "a server")
        Traceback (most recent call last):
        ValueError: a server has another tokenizer than the data: ...
    """
    try:
        theirs = [int(each) for each in ask(PROBE)]
    except (ServerError, ValueError, TypeError, KeyError):
        return
    own = [int(i) for i in tokenizer(PROBE, add_special_tokens=False)["input_ids"]]
    if theirs != own:
        first = next(
            (i for i, pair in enumerate(zip(own, theirs, strict=False)) if pair[0] != pair[1]),
            min(len(own), len(theirs)),
        )
        name = getattr(tokenizer, "name_or_path", type(tokenizer).__name__)
        raise ValueError(
            f"{server} has another tokenizer than the data: of one text, its token {first} is"
            f" {theirs[first : first + 1]}, and that of {name} is {own[first : first + 1]}; serve a"
            " teacher with the tokenizer of the data"
        )
