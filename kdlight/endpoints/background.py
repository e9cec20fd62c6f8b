"""Calls in threads that do not keep a process alive."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class BackgroundCalls:
    """Runs calls in a number of threads, in the order in which they come.

    The threads are daemons: where a run is interrupted, its process ends, although a server was
    asked and has not answered yet. The threads of `concurrent.futures` would be waited for, with
    all attempts that they still make. In a forked process there are new threads.

    Args:
        threads: number of calls that run at the same time.

    Example:
        >>> calls = BackgroundCalls(2)
        >>> calls.submit(pow, 2, 3).result()
        8
        >>> calls.close()
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._reset()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Run ``function(*arguments)``; the future has its result or its error."""
        if self._process != os.getpid():
            self._reset()
        future: Future = Future()
        self._waiting.put((future, function, arguments))
        if self._started < self.threads:
            self._started += 1
            threading.Thread(target=_work, args=(self._waiting,), daemon=True).start()
        return future

    def close(self) -> None:
        """Cancel the calls that have not begun, and end the threads after those that have."""
        if self._process == os.getpid():
            while not self._waiting.empty():
                item = self._waiting.get()
                if item is not None:
                    item[0].cancel()
            _end(self._waiting, self._started)
        self._reset()

    def _reset(self) -> None:
        self._waiting: SimpleQueue = SimpleQueue()
        self._started = 0
        self._process = os.getpid()
        # whoever forgets to close it leaves no threads behind
        weakref.finalize(self, _end, self._waiting, self.threads)

    def __getstate__(self) -> dict[str, int]:
        return {"threads": self.threads}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.threads = state["threads"]
        self._reset()


def _end(waiting: SimpleQueue, threads: int) -> None:
    for _ in range(threads):
        waiting.put(None)


def _work(waiting: SimpleQueue) -> None:
    while (item := waiting.get()) is not None:
        future, function, arguments = item
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = function(*arguments)
        except BaseException as error:  # the one who waits gets it
            future.set_exception(error)
        else:
            future.set_result(result)
        del item, future, function, arguments  # an idle thread holds no results
