"""Work of the first rank for which the others wait, with its result and its error on all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from kdlight.endpoints import ServerError

Result = TypeVar("Result")


def on_first_rank(work: Callable[[], Result]) -> Result:
    """Call ``work`` on rank 0 and return what it returns, or raise what it raises, on every rank.

    The other ranks wait, so all ranks must call this equally often. The result is pickled.

    Raises:
        kdlight.endpoints.ServerError: ``work`` raised one; its own on the first rank.
        RuntimeError: it raised another error; that one on the first rank.

    Example:
        >>> on_first_rank(lambda: 3)
        3
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return work()
    answer: list[Any] = [None, None]
    failure: Exception | None = None
    if dist.get_rank() == 0:
        try:
            answer[0] = work()
        except Exception as error:  # the other ranks would wait for ever
            failure = error
            told = f"{type(error).__name__} on the first rank: {error}"
            is_server = isinstance(error, ServerError)  # all ranks save a checkpoint then
            answer[1] = ServerError(told, url=error.url) if is_server else RuntimeError(told)
    dist.broadcast_object_list(answer, src=0)
    if failure is not None:
        raise failure
    if answer[1] is not None:
        raise answer[1]
    return answer[0]
