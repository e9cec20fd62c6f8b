from __future__ import annotations

import time
from typing import Any

import pytest

from kdlight.endpoints.attempts import UNUSABLE, NotAnsweredError, repeat


class Fails:
    def __init__(self, times: int, **options: Any) -> None:
        self.times, self.options, self.count = times, options, 0

    def __call__(self) -> int:
        self.count += 1
        if self.count <= self.times:
            raise NotAnsweredError("busy", **self.options)
        return self.count


def test_it_is_repeated_until_it_succeeds() -> None:
    assert repeat(Fails(3), attempts=4, longest_pause=0.01) == 4


def test_the_last_error_tells_the_number_of_attempts() -> None:
    fails = Fails(100)
    with pytest.raises(NotAnsweredError, match="busy") as error:
        repeat(fails, attempts=3, longest_pause=0.01)
    assert (error.value.attempts, fails.count) == (3, 3)


def test_answers_that_cannot_be_used_end_sooner() -> None:
    fails = Fails(100, is_unusable=True)
    with pytest.raises(NotAnsweredError):
        repeat(fails, attempts=50, longest_pause=0.01)
    assert fails.count == UNUSABLE


@pytest.mark.parametrize(("longest", "low", "high"), [(1.0, 0.2, 0.9), (0.02, 0.0, 0.15)])
def test_a_server_may_ask_for_a_pause(longest: float, low: float, high: float) -> None:
    begin = time.perf_counter()
    repeat(Fails(1, pause=0.2), attempts=2, longest_pause=longest)
    assert low <= time.perf_counter() - begin < high


def test_other_errors_are_not_repeated() -> None:
    def fail() -> None:
        raise KeyError("a")

    with pytest.raises(KeyError):
        repeat(fail, attempts=5, longest_pause=1.0)
