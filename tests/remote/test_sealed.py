"""Sealed bytes come back as they were, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlight.remote.sealed import open_sealed, seal

DTYPES = [torch.uint8, torch.int32, torch.float16, torch.bfloat16, torch.float32]
CONTENT = seal({"a": torch.arange(12).view(3, 4), "b": torch.ones(2)}, {"kind": "x", "n": "3"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_and_texts_come_back(dtype: torch.dtype) -> None:
    tensors = {"a": torch.randn(3, 4).to(dtype).t(), "none": torch.empty(0, dtype=dtype)}
    texts = {"kind": "x", "text": 'a "checksum":"1" \n ü'}
    fields, read, _ = open_sealed(seal(tensors, texts))
    assert fields == texts
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_the_checksum_tells_contents_apart() -> None:
    contents = [
        seal({"a": torch.zeros(2)}, {"kind": "x"}),
        seal({"a": torch.zeros(2)}, {"kind": "y"}),
        seal({"b": torch.zeros(2)}, {"kind": "x"}),
        seal({"a": torch.zeros(2, 1)}, {"kind": "x"}),
    ]
    assert len({open_sealed(content).checksum for content in contents}) == len(contents)


@settings(deadline=None)  # a machine may be busy
@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_every_changed_byte_is_noticed(place: int, change: int) -> None:
    changed = bytearray(CONTENT)
    changed[place] ^= change
    with pytest.raises(ValueError, match="bytes that"):
        open_sealed(bytes(changed))


@settings(deadline=None)  # a machine may be busy
@given(st.integers(0, len(CONTENT) - 1))
def test_every_cut_is_noticed(size: int) -> None:
    with pytest.raises(ValueError, match="bytes that"):
        open_sealed(CONTENT[:size])


@settings(deadline=None)  # a machine may be busy
@given(st.binary(min_size=1, max_size=40))
def test_bytes_at_the_end_are_noticed(more: bytes) -> None:
    with pytest.raises(ValueError, match="bytes that"):
        open_sealed(CONTENT + more)


@settings(deadline=None)  # a machine may be busy
@given(st.one_of(st.binary(max_size=200), st.text(max_size=50).map(str.encode)))
def test_foreign_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="no message of kdlight"):
        open_sealed(content)


@pytest.mark.parametrize(
    "head",
    [b"[" * 5000, b'{"checksum":"0"', b'[{"checksum":""}]', b'{"__metadata__":{"checksum":""}}'],
)
def test_strange_heads_are_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="bytes that"):
        open_sealed(len(head).to_bytes(8, "little") + head)


def test_a_checksum_does_not_make_tensors_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(tensors: Any, metadata: dict[str, str]) -> bytes:
        text = f'{{"__metadata__":{{"checksum":"{metadata["checksum"]}"}},"a":{{"dtype":"F32"}}}}'
        return len(text).to_bytes(8, "little") + text.encode()

    monkeypatch.setattr("safetensors.torch.save", save)
    with pytest.raises(ValueError, match="tensors that cannot be read"):
        open_sealed(seal({}, {}))
