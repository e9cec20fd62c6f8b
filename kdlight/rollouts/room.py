"""How far a text can be continued within the contexts of a network and of a server."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def room_in_context(
    prefixes: Sequence[Tensor], room: Sequence[int], context: int | None
) -> list[int]:
    """Return the maximal number of new tokens of each text, so that none leaves the context.

    Args:
        prefixes: token ids (n,) of each text.
        room: maximal number of new tokens of each.
        context: maximal length of a text; None for no limit.

    Example:
        >>> import torch
        >>> room_in_context([torch.zeros(5), torch.zeros(9)], [4, 4], context=8)
        [3, -1]
    """
    if context is None:
        return list(room)
    return [min(most, context - len(prefix)) for prefix, most in zip(prefixes, room, strict=True)]


def check_served_room(
    prefixes: Sequence[Tensor], room: Sequence[int], context: int | None, url: str
) -> None:
    """Raise a ValueError where a server would cut a continuation, which looks as if it had ended.

    Args:
        prefixes: token ids (n,) of each text.
        room: maximal number of new tokens of each.
        context: maximal length of a text of the server; None if it is not known.
        url: the server.

    Example:
        >>> import torch
        >>> check_served_room([torch.zeros(5)], [4], context=8, url="http://localhost:8000")
        Traceback (most recent call last):
        ValueError: a text of 5 tokens is to be continued by 4, but the context of http://localh...
    """
    for prefix, most in zip(prefixes, room, strict=True):
        if context is not None and most > 0 and len(prefix) + most > context:
            raise ValueError(
                f"a text of {len(prefix)} tokens is to be continued by {most}, but the context of"
                f" {url} is {context}; start the server with a larger --max-model-len, or set a"
                " smaller max_new_tokens"
            )
