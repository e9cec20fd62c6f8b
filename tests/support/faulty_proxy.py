"""A proxy between a client and a real server that damages some of the answers.

Faults act on requests of scores only, so that a client can find out what the server is. Each takes
the place of one answer; a request that is sent again is a new one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import Asked, Reply, http_server

SCORES = ("/v1/completions", "/v1/score")

Write = Callable[[BaseHTTPRequestHandler], None]
Fault = Callable[[Asked, Reply], "Reply | Write"]
"""From a request and the right answer to it to what the client gets."""


@dataclass
class Proxy:
    """The state of the proxy, which a test changes.

    Attributes:
        url: its address.
        faults: of the next requests of scores, in order.
        always: of all others.
        injected: number of faults that were sent.
    """

    url: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    injected: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def next_fault(self) -> Fault | None:
        with self.lock:
            fault = self.faults.popleft() if self.faults else self.always
            self.injected += fault is not None
            return fault

    def clear(self) -> None:
        with self.lock:
            self.faults.clear()
            self.always = None


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy to the server at ``upstream`` until the end of the context."""
    import httpx2

    proxy = Proxy()

    def decide(asked: Asked, number: int) -> Reply | Write:
        kept = ("content-type", "authorization")
        headers = {name: value for name, value in asked.headers.items() if name in kept}
        found = client.request(asked.method, asked.path, content=asked.content, headers=headers)
        kind = {"Content-Type": found.headers.get("content-type", "application/json")}
        reply = Reply(found.content, found.status_code, kind)
        fault = proxy.next_fault() if asked.path in SCORES else None
        return reply if fault is None else fault(asked, reply)

    with httpx2.Client(base_url=upstream, timeout=30.0) as client, http_server(decide) as server:
        proxy.url = server.url
        yield proxy
