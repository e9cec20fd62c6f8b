"""All faults that are injected between a client and a server, and what is expected of each."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.support import connection_faults as connection
from tests.support.connection_faults import body, status
from tests.support.faulty_json import VLLM, json_fault
from tests.support.faulty_proxy import Fault
from tests.support.faulty_scores import KDLIGHT, cut, flip, kdlight_fault
from tests.support.http_server import Reply

CONNECTION: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        connection.closed,
        connection.reset,
        connection.late,
        connection.slow,
        connection.garbage,
        connection.half_of_the_headers,
        connection.half_of_the_body,
        connection.all_but_a_byte,
        connection.chunks_that_end_early,
        connection.a_length_that_is_too_small,
        connection.a_length_that_is_too_large,
        connection.gzip_that_is_none,
    )
}
BUSY: dict[str, Fault] = {
    **{f"status {code}": status(code) for code in (408, 425, 429, 500, 502, 503, 504)},
    "Retry-After: 0": status(429, Retry_After="0"),
    "Retry-After: 1": status(503, Retry_After="1"),
    "Retry-After with a date": status(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "Retry-After that is no number": status(503, Retry_After="soon"),
}
REFUSED: dict[str, Fault] = {
    f"status {code}": status(code) for code in (301, 302, 400, 401, 403, 404, 413, 422, 501)
}
OTHER_BODIES: dict[str, Fault] = {
    "nothing": body(b""),
    "a page of a proxy": body(b"<html><body>502 Bad Gateway</body></html>"),
    "null": body(b"null"),
    "an empty object": body(b"{}"),
    "an empty list": body(b"[]"),
    "a number": body(b"7"),
    "an error in a right status": body({"error": {"message": "overloaded", "code": 500}}),
    "deep nesting": body(b"[" * 100_000),
    "bytes of UTF-16": lambda asked, reply: Reply("{}".encode("utf-16")),
    "the body twice": lambda asked, reply: Reply(reply.body * 2),
    "status 204": lambda asked, reply: Reply(b"", 204),
}
BOTH = CONNECTION | BUSY | OTHER_BODIES
PLACES = [0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0]


class Case(NamedTuple):
    """A fault of one answer, or of all; it is survived, or there is an error."""

    dialect: str
    name: str
    fault: Fault
    always: bool
    survives: bool


def cases() -> list[Case]:
    found = []
    for dialect in ("vllm", "kdlight"):
        found += [Case(dialect, name, fault, False, True) for name, fault in BOTH.items()]
        found += [Case(dialect, name, fault, False, False) for name, fault in REFUSED.items()]
    found += [Case("vllm", name, fault, True, False) for name, fault in BOTH.items()]
    for name, change in VLLM.items():
        found += [
            Case("vllm", name, json_fault(change), always, not always) for always in (False, True)
        ]
    for name, change in KDLIGHT.items():
        fault = kdlight_fault(change)
        found += [Case("kdlight", name, fault, always, not always) for always in (False, True)]
    found += [Case("kdlight", f"a bit at {at}", flip(at), False, True) for at in PLACES]
    found += [Case("kdlight", f"cut at {at}", cut(at), False, True) for at in PLACES[:-1]]
    return found


CASES = cases()


def named(case: Case) -> str:
    when = "always" if case.always else "once"
    return f"{case.dialect}-{re.sub('[^a-zA-Z0-9.]+', '_', case.name)}-{when}"
