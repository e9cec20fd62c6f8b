"""Different content has different hashes, and the same content the same, of whatever kind."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from kdlight.cache.digests import KEY_BYTES, ContentDigest, hash_tensor

VALUES: list[Any] = [
    torch.tensor([1, 2]), torch.tensor([1.0, 2.0]), torch.tensor([[1, 2]]),
    torch.tensor([1.0, 2.0]).bfloat16(), torch.tensor(1), torch.zeros(0), torch.zeros(0, 2),
    torch.tensor([1 + 2j]), torch.tensor([True]), "a", "ab", b"a", 1, 1.0, True, None, [1, 2],
    [[1], 2], ["a", "b"], ["ab"], {"a": 1}, {"a": 1, "b": 2}, {"b": 1}, {"a": {"b": 1}}, "\ud800",
]  # fmt: skip


def key(value: Any) -> bytes:
    digest = ContentDigest()
    digest.add("entry", value)
    return digest.key()


def test_no_two_values_have_one_hash() -> None:
    for one, other in combinations(VALUES, 2):
        assert key(one) != key(other), (one, other)


def test_memory_does_not_matter() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    assert hash_tensor(tensor.T.contiguous().T) == hash_tensor(tensor)
    assert key(tensor.to_sparse()) == key(tensor)
    assert key(np.arange(6.0, dtype=np.float32).reshape(2, 3)) == key(tensor)
    assert key((1, 2)) == key([1, 2])
    assert len(hash_tensor(tensor)) == KEY_BYTES


def test_an_object_without_known_content_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="entry 'entry' of the batch is a object, of which"):
        key(object())
