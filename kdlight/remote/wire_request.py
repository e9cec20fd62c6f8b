"""The request of a client to ``kdlight serve``; `kdlight.remote.wire` describes its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdlight.cache.records import BITS, EXACT
from kdlight.remote.sealed import Opened, open_sealed, seal

PROTOCOL = "1"
"""Version of the messages; another one is refused."""

Kind: TypeAlias = Literal["score", "score_ids", "states"]
KINDS = get_args(Kind)


@dataclass(frozen=True, eq=False)
class TeacherRequest:
    """A request: what a teacher is asked about some sequences.

    Attributes:
        kind: ``"score"`` for the top k, ``"score_ids"`` for given tokens, ``"states"``.
        sequences: token ids of each sequence, without padding.
        k: tokens of a position for ``"score"``; None for all.
        bits: bits of a log-probability.
        ids: for ``"score_ids"``, the tokens of each position ``(T, k)`` of each sequence.
        checksum: of the bytes, where it was read from some; `encode_request` returns it, too.

    Example:
        >>> content, checksum = encode_request(TeacherRequest("score", [[1, 2], [3]], k=5))
        >>> request = decode_request(content)
        >>> request.sequences, request.lengths, request.checksum == checksum
        ([[1, 2], [3]], [2, 1], True)
    """

    kind: Kind
    sequences: list[list[int]]
    k: int | None = None
    bits: int = EXACT
    ids: list[NDArray[np.int64]] = field(default_factory=list)
    checksum: str = ""

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each sequence."""
        return [len(each) for each in self.sequences]


def encode_request(request: TeacherRequest) -> tuple[bytes, str]:
    """Return the bytes of a request, and their checksum.

    Raises:
        ValueError: there is no sequence, an empty one, or ids of another shape.
    """
    _check_request(request)
    fields = {"k": "all" if request.k is None else str(request.k), "bits": str(request.bits)}
    tensors = {
        "tokens": _integers([token for each in request.sequences for token in each]),
        "lengths": _integers(request.lengths),
    }
    if request.kind == "score_ids":
        tensors["ids"] = torch.from_numpy(np.concatenate(request.ids).astype(np.int32))
    content = seal(tensors, {"protocol": PROTOCOL, "kind": request.kind, **fields})
    return content, open_sealed(content).checksum


def decode_request(content: bytes) -> TeacherRequest:
    """Return the request in ``content``.

    Raises:
        ValueError: it is no request, or was changed on the way.
    """
    fields, tensors, checksum = opened = open_sealed(content)
    check_protocol(opened)
    try:
        tokens, lengths = (tensors[name].tolist() for name in ("tokens", "lengths"))
        if min(lengths, default=0) < 0 or sum(lengths) != len(tokens):
            raise ValueError(f"{len(tokens)} tokens are not {sum(lengths)}, the sum of all lengths")
        ends = np.cumsum([0, *lengths]).tolist()
        ids = tensors["ids"].long().split(lengths) if "ids" in tensors else ()
        request = TeacherRequest(
            fields["kind"],  # type: ignore[arg-type]
            [tokens[begin:end] for begin, end in zip(ends, ends[1:], strict=False)],
            None if fields["k"] == "all" else int(fields["k"]),
            int(fields["bits"]),
            [each.numpy() for each in ids],
            checksum,
        )
    except (LookupError, TypeError, RuntimeError) as error:
        raise ValueError(f"a request that lacks a part: {error}") from error
    _check_request(request)
    return request


def check_protocol(opened: Opened) -> None:
    """Raise a ValueError for a message of another version of the protocol."""
    if (found := opened.fields.get("protocol")) != PROTOCOL:
        raise ValueError(
            f"a message of protocol {found!r}, but this kdlight has protocol {PROTOCOL!r}; install"
            " the same version on both sides"
        )


def _check_request(request: TeacherRequest) -> None:
    lengths, ids = request.lengths, request.ids
    if request.kind not in KINDS or request.bits not in BITS:
        raise ValueError(f"kind {request.kind!r} of {KINDS}, bits {request.bits} of {BITS}")
    if not lengths or min(lengths) < 1:
        raise ValueError(f"a request needs sequences of at least 1 token, got lengths {lengths}")
    if request.k is not None and request.k < 1:
        raise ValueError(f"k must be at least 1, got {request.k}")
    if request.kind != "score_ids":
        return
    widths = {each.shape[1:] for each in ids}
    if [len(each) for each in ids] != lengths or len(widths) != 1 or len(min(widths)) != 1:
        shapes = [each.shape for each in ids]
        raise ValueError(f"ids must be (T, k) with one k, for lengths {lengths}, got {shapes}")
    if min(widths) < (1,):
        raise ValueError("ids must have at least one token at each position")


def _integers(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)
