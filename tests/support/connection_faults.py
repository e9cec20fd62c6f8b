"""Answers that do not arrive whole, in time or at all, and other statuses and contents."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.faulty_proxy import Fault, Write
from tests.support.http_server import Asked, Reply

DELAY = 2.5
"""Seconds that a late answer takes; clients in tests wait for less."""


def closed(asked: Asked, reply: Reply) -> Write:
    """The connection ends without an answer."""
    return _end


def reset(asked: Asked, reply: Reply) -> Write:
    """The connection is reset, as by a server that is killed."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        now = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        handler.close_connection = True
        handler.rfile.close()  # holds the socket open
        handler.connection.close()

    return write


def late(asked: Asked, reply: Reply) -> Write:
    """The answer comes after the time-out."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(DELAY)
        raw(_message(reply))(handler)

    return write


def slow(asked: Asked, reply: Reply) -> Write:
    """A byte now and then: no pause is as long as the time-out, the answer never ends in time."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        message = _message(reply)
        start = len(message) - len(reply.body) + 1
        _send(handler, message[:start])
        for at in range(start, start + int(DELAY / 0.1)):
            if not _send(handler, message[at : at + 1]):
                break
            time.sleep(0.1)
        _end(handler)

    return write


def garbage(asked: Asked, reply: Reply) -> Write:
    """What is sent is no HTTP."""
    return raw(bytes(range(256)) * 4)


def half_of_the_headers(asked: Asked, reply: Reply) -> Write:
    return raw(_message(reply)[:30])


def half_of_the_body(asked: Asked, reply: Reply) -> Write:
    return raw(_message(reply)[: -len(reply.body) // 2])


def all_but_a_byte(asked: Asked, reply: Reply) -> Write:
    return raw(_message(reply)[:-1])


def chunks_that_end_early(asked: Asked, reply: Reply) -> Write:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    size = len(reply.body) // 2
    return raw(head + f"{size:x}\r\n".encode() + reply.body[:size] + b"\r\n")


def a_length_that_is_too_small(asked: Asked, reply: Reply) -> Write:
    return raw(_message(reply, length=len(reply.body) // 2))


def a_length_that_is_too_large(asked: Asked, reply: Reply) -> Write:
    return raw(_message(reply, length=len(reply.body) + 7))


def gzip_that_is_none(asked: Asked, reply: Reply) -> Reply:
    return Reply(reply.body, 200, {"Content-Encoding": "gzip"})


def status(code: int, **headers: str) -> Fault:
    """Return the fault of an answer with this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked, reply: Reply({"error": {"message": f"{code}"}}, code, named)


def body(content: Any) -> Fault:
    """Return the fault of another content, with the status of a right answer."""
    return lambda asked, reply: Reply(content)


def raw(message: bytes) -> Write:
    """Return what sends these bytes and ends the connection."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        _send(handler, message)
        _end(handler)

    return write


def _message(reply: Reply, length: int | None = None) -> bytes:
    size = len(reply.body) if length is None else length
    return f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + reply.body


def _send(handler: BaseHTTPRequestHandler, message: bytes) -> bool:
    try:
        handler.wfile.write(message)
        handler.wfile.flush()
    except OSError:  # the client has gone
        return False
    return True


def _end(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    with suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)
