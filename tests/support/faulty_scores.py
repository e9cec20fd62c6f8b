"""Answers of ``kdlight serve`` that are changed on the way, or that a faulty server sends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kdlight.cache.records import Sequence
from kdlight.remote.wire import decode_request, decode_scores, encode_scores
from tests.support import served
from tests.support.faulty_proxy import Fault
from tests.support.http_server import Asked, Reply


def kdlight_fault(change: Callable[[list[Sequence], int], int | None]) -> Fault:
    """Return the fault of a server that sends other numbers, with a right checksum.

    Args:
        change: changes the rows in place, given the vocabulary; may return another vocabulary.
    """

    def fault(asked: Asked, reply: Reply) -> Reply:
        request = decode_request(asked.content)
        rows = decode_scores(
            reply.body,
            kind=request.kind,
            request=request.checksum,
            lengths=request.lengths,
            vocabulary=None,
        )
        width = change(rows, served.V) or served.V
        return Reply(encode_scores(rows, request, vocabulary=width))

    return fault


def at_value(value: float) -> Callable[[list[Sequence], int], None]:
    def change(rows: list[Sequence], width: int) -> None:
        rows[-1].log_probs[1] = value

    return change


def at_tail(value: float) -> Callable[[list[Sequence], int], None]:
    def change(rows: list[Sequence], width: int) -> None:
        rows[-1].log_tails[1] = value

    return change


def without_a_position(rows: list[Sequence], width: int) -> None:
    kept = rows[-1].positions != 1
    rows[-1] = rows[-1]._replace(
        positions=rows[-1].positions[kept],
        ids=rows[-1].ids[kept],
        log_probs=rows[-1].log_probs[kept],
        log_tails=np.delete(rows[-1].log_tails, 1),
    )


def without_a_token(rows: list[Sequence], width: int) -> None:
    rows[-1] = rows[-1]._replace(
        positions=rows[-1].positions[1:], ids=rows[-1].ids[1:], log_probs=rows[-1].log_probs[1:]
    )


KDLIGHT: dict[str, Callable[[list[Sequence], int], int | None]] = {
    "NaN": at_value(float("nan")),
    "infinity": at_value(float("inf")),
    "above 0": at_value(0.5),
    "more than 1 in sum": lambda rows, width: rows[-1].log_probs.fill(-0.1),
    "a tail of NaN": at_tail(float("nan")),
    "a tail above 0": at_tail(0.5),
    "a tail that is too large": at_tail(-1e-3),
    "a position less": without_a_position,
    "a token less": without_a_token,
    "another vocabulary": lambda rows, width: 49152,
}


def flip(place: float) -> Fault:
    """Return the fault of one flipped bit, at a place between 0 and 1."""

    def fault(asked: Asked, reply: Reply) -> Reply:
        content = bytearray(reply.body)
        at = int(place * (len(content) - 1))
        content[at] ^= 1 << (at % 8)
        return Reply(bytes(content))

    return fault


def cut(place: float) -> Fault:
    """Return the fault of an answer that ends at a place between 0 and 1, with that length."""
    return lambda asked, reply: Reply(reply.body[: int(place * len(reply.body))])
