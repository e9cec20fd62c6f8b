"""Requests come back as they were; what a server cannot answer is no request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlight.remote.sealed import seal
from kdlight.remote.wire_request import TeacherRequest, decode_request, encode_request

sequences = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), min_size=1)


@settings(deadline=None)  # a machine may be busy
@given(sequences, st.one_of(st.none(), st.integers(1, 99)), st.sampled_from([8, 32]))
def test_a_request_comes_back(rows: list[list[int]], k: int | None, bits: int) -> None:
    content, checksum = encode_request(TeacherRequest("score", rows, k, bits))
    read = decode_request(content)
    assert (read.kind, read.sequences, read.k, read.bits) == ("score", rows, k, bits)
    assert read.checksum == checksum


@settings(deadline=None)  # a machine may be busy
@given(sequences, st.integers(1, 5))
def test_ids_come_back(rows: list[list[int]], k: int) -> None:
    ids = [np.random.default_rng(0).integers(0, 99, (len(row), k)) for row in rows]
    read = decode_request(encode_request(TeacherRequest("score_ids", rows, ids=ids))[0])
    assert all((one == other).all() for one, other in zip(ids, read.ids, strict=True))


BASE = TeacherRequest("score", [[1, 2], [3]], k=5)
IDS = [np.zeros((2, 3), dtype=np.int64), np.zeros((1, 3), dtype=np.int64)]


def test_the_checksum_tells_requests_apart() -> None:
    others = [
        BASE,
        replace(BASE, sequences=[[1], [2, 3]]),
        replace(BASE, sequences=[[1, 2], [4]]),
        replace(BASE, k=6),
        replace(BASE, k=None),
        replace(BASE, bits=8),
        replace(BASE, kind="states"),
        replace(BASE, kind="score_ids", ids=IDS),
        replace(BASE, kind="score_ids", ids=[each + 1 for each in IDS]),
    ]
    assert len({encode_request(each)[1] for each in others}) == len(others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": []}, "at least 1 token"),
        ({"sequences": [[1], []]}, "at least 1 token"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"kind": "everything"}, "'everything'"),
        ({"bits": 9}, "bits 9"),
        ({"kind": "score_ids"}, r"ids must be \(T, k\)"),
        ({"kind": "score_ids", "ids": IDS[:1]}, r"ids must be \(T, k\)"),
        ({"kind": "score_ids", "ids": IDS[::-1]}, r"ids must be \(T, k\)"),
        ({"kind": "score_ids", "ids": [IDS[0], IDS[1][:, :2]]}, r"ids must be \(T, k\)"),
        ({"kind": "score_ids", "ids": [each[:, 0] for each in IDS]}, r"ids must be \(T, k\)"),
        ({"kind": "score_ids", "ids": [each[:, :0] for each in IDS]}, "at least one token"),
    ],
)
def test_a_wrong_request_is_not_sent(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_request(replace(BASE, **change))


FIELDS = {"protocol": "1", "kind": "score", "k": "5", "bits": "32"}
TENSORS = {"tokens": torch.tensor([1, 2, 3]), "lengths": torch.tensor([2, 1])}


@pytest.mark.parametrize(
    ("tensors", "fields", "message"),
    [
        ({}, {}, "lacks a part: 'tokens'"),
        ({"lengths": torch.tensor([2, 2])}, FIELDS, "3 tokens are not 4"),
        ({"lengths": torch.tensor([5, -2])}, FIELDS, "3 tokens are not 3"),
        ({"lengths": torch.tensor(3)}, FIELDS, "lacks a part"),
        ({"tokens": torch.tensor([[1, 2, 3]])}, FIELDS, "are not"),
        ({"ids": torch.zeros(2, 1)}, {**FIELDS, "kind": "score_ids"}, "lacks a part"),
        ({"ids": torch.zeros(3)}, {**FIELDS, "kind": "score_ids"}, r"ids must be \(T, k\)"),
        ({}, {**FIELDS, "k": "many"}, "many"),
        ({}, {**FIELDS, "k": "0"}, "at least 1"),
        ({}, {**FIELDS, "bits": "7.5"}, "7.5"),
        ({}, {**FIELDS, "kind": "all"}, "'all'"),
        ({}, {**FIELDS, "protocol": "0"}, "protocol '0', but this kdlight has protocol '1'"),
    ],
)
def test_a_server_reads_no_wrong_request(
    tensors: dict[str, torch.Tensor], fields: dict[str, str], message: str
) -> None:
    given_tensors = {**TENSORS, **tensors} if fields else tensors
    content = seal(given_tensors, fields or FIELDS)
    with pytest.raises(ValueError, match=message):
        decode_request(content)
