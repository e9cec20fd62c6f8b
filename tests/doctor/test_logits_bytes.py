"""Bytes of logits, dense and in chunks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight import LossInputs, Projected
from kdlight.doctor.logits_bytes import logits_bytes, position_count


@pytest.mark.parametrize("chunked", [True, False])
def test_logits_dense_and_in_chunks(chunked: bool) -> None:
    student, teacher = torch.zeros(4, 500, 4), torch.zeros(4, 500, 8, dtype=torch.bfloat16)
    head = nn.Linear(8, 1000, dtype=torch.bfloat16).requires_grad_(False)
    inputs = LossInputs(
        Projected(student, nn.Linear(4, 1000)),
        Projected(teacher, head),
        chunked=chunked,
    )
    sizes = logits_bytes(inputs, valid=1800, autocast_dtype=None, device=torch.device("cpu"))
    assert sizes.in_chunks is chunked
    assert 0 < sizes.tokens < 1800
    assert (sizes.student, sizes.teacher) == (2 * 1800 * 1000 * 4, 1800 * 1000 * 2)
    assert (sizes.student_chunked, sizes.teacher_chunked) == (
        sizes.tokens * 1000 * 4,
        sizes.tokens * 1000 * 2,
    )


def test_chunks_do_not_help_logits_that_are_there() -> None:
    inputs = LossInputs(torch.zeros(4, 500, 1000), torch.zeros(4, 500, 1000, dtype=torch.bfloat16))
    sizes = logits_bytes(inputs, valid=1800, autocast_dtype=None, device=torch.device("cpu"))
    assert (sizes.student, sizes.student_chunked) == (2 * 2000 * 1000 * 4, None)
    assert (sizes.teacher, sizes.teacher_chunked) == (2000 * 1000 * 2, None)


def test_positions_are_counted_whether_valid_or_not() -> None:
    assert position_count(LossInputs(torch.zeros(4, 5, 6), mask=torch.zeros(4, 5) > 0)) == 20
