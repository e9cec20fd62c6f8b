"""A teacher reads the entries of a batch with its prefix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight.data import TeacherTokens


class Recorder(nn.Module):
    """Returns the batch that it gets."""

    vocab_size, context_length = 7, 32

    def forward(self, batch: Any) -> Any:
        return batch


def test_the_network_gets_the_entries_of_the_teacher_only() -> None:
    batch = {"input_ids": 1, "teacher_input_ids": 2, "teacher_attention_mask": 3, "labels": 4}
    assert TeacherTokens(Recorder())(batch) == {"input_ids": 2, "attention_mask": 3}


def test_its_sizes_are_those_of_the_network() -> None:
    teacher = TeacherTokens(Recorder())
    assert (teacher.vocab_size, teacher.context_length) == (7, 32)
    plain = TeacherTokens(nn.Identity())
    assert (plain.vocab_size, plain.context_length) == (None, None)


@pytest.mark.parametrize("batch", [{"input_ids": torch.zeros(1, 2)}, (torch.zeros(1, 2),)])
def test_a_batch_without_tokens_of_the_teacher_is_refused(batch: Any) -> None:
    got = "'input_ids'" if isinstance(batch, dict) else "tuple"
    with pytest.raises(ValueError, match=f"reads teacher_input_ids .* none: .?{got}"):
        TeacherTokens(nn.Identity())(batch)
