"""Attempts of a request: how many there are, and how long the pauses between them."""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom
from typing import Any, TypeVar

Result = TypeVar("Result")

OWN_RANDOM = SystemRandom()
"""Not the generator of the run, whose numbers would change with each attempt, and whose seed all
ranks may share."""

UNUSABLE = 4
"""Number of answers that cannot be used before a request is given up."""


class NotAnsweredError(Exception):
    """An attempt that may succeed when it is repeated.

    Attributes:
        pause: seconds after which the server wants to be asked again; None if it does not say.
        is_unusable: whether there was an answer, which cannot be used.
        attempts: number of attempts, if it is the last one.

    Example:
        >>> NotAnsweredError("busy", pause=2.0).pause
        2.0
    """

    def __init__(
        self, message: str, *, pause: float | None = None, is_unusable: bool = False
    ) -> None:
        super().__init__(message)
        self.pause, self.is_unusable = pause, is_unusable
        self.attempts = 1


def repeat(attempt: Callable[[], Result], *, attempts: int, longest_pause: float) -> Result:
    """Return what ``attempt`` returns, which is repeated while it raises a `NotAnsweredError`.

    The pauses are random, below 0.2, 0.4, 0.8, ... seconds, so that the ranks of a run do not ask
    a restarted server all at once; or as long as the server asks for.

    Args:
        attempt: one attempt.
        attempts: most attempts. Answers that cannot be used end them sooner.
        longest_pause: most seconds between two attempts.

    Raises:
        NotAnsweredError: that of the last attempt.

    Example:
        >>> repeat(lambda: "answer", attempts=3, longest_pause=1.0)
        'answer'
    """
    from tenacity import RetryError, Retrying, retry_if_exception_type

    def pause(state: Any) -> float:
        wanted = state.outcome.exception().pause
        if wanted is None:
            return OWN_RANDOM.uniform(0, min(longest_pause, 0.1 * 2**state.attempt_number))
        return min(wanted, longest_pause)

    retrying = Retrying(
        retry=retry_if_exception_type(NotAnsweredError), stop=_Stop(attempts), wait=pause
    )
    try:
        return retrying(attempt)
    except RetryError as error:
        last = error.last_attempt.exception()
        assert isinstance(last, NotAnsweredError)
        last.attempts = error.last_attempt.attempt_number
        raise last from last.__cause__


class _Stop:
    """Stops after some attempts, and sooner where answers come, but cannot be used."""

    def __init__(self, attempts: int) -> None:
        self.attempts, self.unusable = attempts, 0

    def __call__(self, state: Any) -> bool:
        self.unusable += state.outcome.exception().is_unusable
        return state.attempt_number >= self.attempts or self.unusable >= UNUSABLE
