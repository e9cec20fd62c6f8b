"""Work of the first rank for which the others wait, with its result and its error on all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

Result = TypeVar("Result")


def on_first_rank(work: Callable[[], Result]) -> Result:
    """Call ``work`` on rank 0 and return what it returns, or raise what it raises, on every rank.

    The other ranks wait, so all ranks must call this equally often. The result is pickled.

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
            answer[1] = f"{type(error).__name__} on the first rank: {error}"
    dist.broadcast_object_list(answer, src=0)
    if failure is not None:
        raise failure
    if answer[1] is not None:
        raise RuntimeError(answer[1])
    return answer[0]
