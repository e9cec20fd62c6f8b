"""What a client and ``kdlight serve`` send each other, as bytes.

Every message is one safetensors file: tensors, and texts in its metadata, among which ``checksum``
is the blake2b hash of all bytes (with zeros in its own place). Sequences are concatenated to N
positions in total.

| message | field | type | content |
| --- | --- | --- | --- |
| request | ``protocol`` | text | ``"1"`` |
| | ``kind`` | text | ``"score"``, ``"score_ids"`` or ``"states"`` |
| | ``k`` | text | tokens of a position for ``"score"``; ``"all"`` for the vocabulary |
| | ``bits`` | text | bits of a log-probability, see `kdlight.cache.records.BITS`; 32 is exact |
| | ``tokens`` | int32 ``(N,)`` | token ids of all sequences |
| | ``lengths`` | int32 ``(B,)`` | number of tokens of each |
| | ``ids`` | int32 ``(N, k)`` | for ``"score_ids"``: the tokens to score at each position |
| every answer | ``protocol``, ``kind`` | text | as in the request |
| | ``request`` | text | the checksum of the request |
| of scores | ``vocabulary`` | text | width V of the logits |
| | ``bits`` | text | as in the request |
| | ``entries`` | text | number of scored tokens n of all positions |
| | ``ids`` | uint8 | ``position * V + id`` of each token, packed as increasing integers |
| | ``values`` | uint8 | log-probabilities: float32 ``(n,)``, or codes of ``bits`` bits, deflated |
| | ``scales`` | ``(N, 1)`` | exact: log of the mass of all other tokens, float32 |
| | | ``(N, 3)`` | else: highest log-probability, span and that mass, float16 |
| of states | ``states`` | ``(N, D)`` | hidden states before the head, in the server's dtype |
| head | ``scale``, ``cap`` | text | see `kdlight.models.output_head.Rescale`; ``"none"`` |
| | ``weight`` | ``(V, D)`` | of the output head, a linear map |
| | ``bias`` | ``(V,)`` | where it has one |

Position t has the distribution of token t + 1, given the tokens up to t.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kdlight.cache.records import BITS, Sequence
from kdlight.remote.packing import pack_sequences, unpack_sequences
from kdlight.remote.sealed import Opened, open_sealed, seal
from kdlight.remote.wire_request import (
    PROTOCOL,
    Kind,
    TeacherRequest,
    check_protocol,
    decode_request,
    encode_request,
)

__all__ = [
    "PROTOCOL",
    "Kind",
    "TeacherRequest",
    "decode_request",
    "decode_scores",
    "decode_states",
    "encode_request",
    "encode_scores",
    "encode_states",
]


def encode_scores(scores: list[Sequence], request: TeacherRequest, *, vocabulary: int) -> bytes:
    """Return the bytes of the answer to ``request``: scores in a vocabulary of that size."""
    tensors, entries = pack_sequences(scores, vocabulary=vocabulary, bits=request.bits)
    numbers = {"bits": request.bits, "vocabulary": vocabulary, "entries": entries}
    fields = {name: str(number) for name, number in numbers.items()}
    return seal(tensors, {**_answer(request.kind, request.checksum), **fields})


def decode_scores(
    content: bytes, *, kind: Kind, request: str, lengths: list[int], vocabulary: int | None
) -> list[Sequence]:
    """Return the scores in ``content``.

    Args:
        content: the answer.
        kind: the kind of the request.
        request: its checksum.
        lengths: the lengths of its sequences.
        vocabulary: the width V that is expected; None for any.

    Raises:
        ValueError: it is no such answer, or the answer to another request.
    """
    opened = _open_answer(content, kind, request)
    width, bits, entries = (_number(opened.fields, each) for each in _NUMBERS)
    if vocabulary is not None and width != vocabulary:
        raise ValueError(f"the answer has a vocabulary of {width} tokens instead of {vocabulary}")
    if bits not in BITS:
        raise ValueError(f"the answer has {bits} bits; known are {BITS}")
    return unpack_sequences(opened.tensors, entries, lengths, vocabulary=width, bits=bits)


def encode_states(states: list[Tensor], request: TeacherRequest) -> bytes:
    """Return the bytes of the answer to ``request``: hidden states ``(T, D)`` of each sequence."""
    return seal({"states": torch.cat(states)}, _answer("states", request.checksum))


def decode_states(content: bytes, *, request: str, lengths: list[int]) -> list[Tensor]:
    """Return the hidden states ``(T, D)`` in ``content``; see `decode_scores`.

    Raises:
        ValueError: it is no such answer, or the answer to another request.
    """
    states = _open_answer(content, "states", request).tensors.get("states")
    if states is None or states.dim() != 2 or len(states) != sum(lengths):
        got = None if states is None else tuple(states.shape)
        raise ValueError(f"expected states of {sum(lengths)} positions, got {got}")
    return list(states.split(lengths))


_NUMBERS = ("vocabulary", "bits", "entries")


def _answer(kind: str, request: str) -> dict[str, str]:
    return {"protocol": PROTOCOL, "kind": kind, "request": request}


def _open_answer(content: bytes, kind: Kind, request: str) -> Opened:
    opened = open_sealed(content)
    check_protocol(opened)
    got = opened.fields.get("kind"), opened.fields.get("request")
    if got != (kind, request):
        raise ValueError(f"the answer to another request: {got} instead of {(kind, request)}")
    return opened


def _number(fields: Mapping[str, str], name: str) -> int:
    value = fields.get(name, "")
    if not value.isdecimal():
        raise ValueError(f"the answer has no number {name!r}, but {value!r}")
    return int(value)
