"""A packed sequence is unpacked with a small error."""

from __future__ import annotations

import pytest
import torch

from kdlight import losses
from kdlight.cache import Settings
from kdlight.cache.records import BITS, Sequence, bytes_per_position, decode, encode
from kdlight.sources import Dense, TopK
from tests.cache.caches import V


def sequence(generator: torch.Generator, *, k: int = 20, length: int = 40) -> tuple[Sequence, TopK]:
    logits = 3 * torch.randn(length, V, generator=generator)
    kept = Settings(k=k).reduce(Dense(logits), torch.arange(length))
    assert kept.log_tail is not None
    stored = torch.arange(length).repeat_interleave(k).numpy()
    flat = (stored, kept.ids.flatten().numpy(), kept.log_probs.flatten().numpy())
    return Sequence(length, *flat, kept.log_tail.numpy()), kept


@pytest.mark.parametrize("bits", BITS)
def test_a_sequence_comes_back_with_a_small_error(bits: int, generator: torch.Generator) -> None:
    before, exact = sequence(generator)
    record = encode(before, vocabulary=V, bits=bits)
    after = decode(record, vocabulary=V, bits=bits)
    assert after.length == before.length
    assert (after.positions == before.positions).all()
    assert (after.ids == before.ids).all()
    size = len(record.ids) + len(record.values) + record.scales.nbytes
    assert size / before.length == pytest.approx(
        bytes_per_position(20, vocabulary=V, bits=bits), 0.03
    )
    values = torch.from_numpy(after.log_probs).view(exact.log_probs.shape)
    read = TopK(exact.ids, values, V, log_tail=torch.from_numpy(after.log_tails))
    student = torch.randn(before.length, V, generator=generator)
    error = losses.forward_kl(read.given_student(student), exact.given_student(student)).mean()
    assert error <= {4: 1e-2, 5: 3e-3, 6: 1e-3, 7: 3e-4, 8: 1e-4}.get(bits, 1e-5)
    if bits == 32:
        assert error == 0
