"""A real HTTP server on a free port, whose answers a test decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends: a status, a body (JSON, or bytes as they are), and headers."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Server:
    url: str
    asked: list[Asked]


Decide = Callable[[Asked, int], "Reply | Callable[[BaseHTTPRequestHandler], None]"]
"""From a request and its number to a reply, or to a function that writes what it wants."""


@contextmanager
def http_server(decide: Decide) -> Iterator[Server]:
    asked: list[Asked] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def _reply(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Asked(
                self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, content
            )
            with lock:
                asked.append(request)
                number = len(asked) - 1
            reply = decide(request, number)
            if not isinstance(reply, Reply):
                reply(self)
                return
            is_bytes = isinstance(reply.body, bytes)
            body = reply.body if is_bytes else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
