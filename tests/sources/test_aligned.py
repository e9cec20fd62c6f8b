"""Logits of a teacher with other token ids."""

from __future__ import annotations

import pytest
import torch

from kdlight import Dense, TopK
from kdlight.sources import Aligned, Alignment

# tokens of the student: a b c d; of the teacher: c x a b y
ALIGNMENT = Alignment(torch.tensor([0, 1, 2]), torch.tensor([2, 3, 0]), 4, 5)
TEACHER = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))


def test_columns_are_rearranged_and_unknown_ones_are_outside() -> None:
    source = Aligned(Dense(TEACHER), ALIGNMENT)
    assert (source.shape, source.dtype, source.device) == ((2, 3, 4), torch.float32, TEACHER.device)
    logits = source.logits()
    assert torch.equal(logits[..., :3], TEACHER[..., [2, 3, 0]])
    assert (logits[..., 3] == -torch.inf).all()
    assert torch.equal(source.select(torch.tensor([4])).logits(), logits.view(6, 4)[4:5])
    assert torch.equal(source.given_student(torch.randn(6, 4)), logits)


def test_the_student_is_rearranged_for_a_source_that_depends_on_it() -> None:
    student, kept = torch.randn(6, 4), TopK.of(TEACHER, 2).select(None)
    seen = torch.full((6, 5), -torch.inf)
    seen[:, [2, 3, 0]] = student[:, :3]
    expected = kept.given_student(seen)[:, [2, 3, 0]]
    logits = Aligned(kept, ALIGNMENT).given_student(student)
    torch.testing.assert_close(logits[:, :3], expected)
    assert (logits[:, 3] == -torch.inf).all()


def test_tokens_of_the_student_alone() -> None:
    assert ALIGNMENT.student_only().tolist() == [3]


def test_ids_are_converted_and_unknown_tokens_raise() -> None:
    assert ALIGNMENT.to_teacher(torch.tensor([[0, 2], [1, 1]])).tolist() == [[2, 0], [3, 3]]
    with pytest.raises(ValueError, match=r"does not know 1 tokens of this batch, ids \[3\]"):
        ALIGNMENT.to_teacher(torch.tensor([3, 0, 3]))
