"""Continuations of prefixes of different lengths, with a real language model."""

from __future__ import annotations

from typing import Any

import torch

from kdlight.callbacks.generation.continuation import continue_text
from tests.support import toy


def test_prefixes_of_different_lengths_are_continued_as_each_would_be_alone() -> None:
    student: Any = toy.llama(seed=1).double()
    prefixes = [torch.tensor([3, 4, 5, 6, 7]), torch.tensor([2]), torch.tensor([8, 9, 1])]
    options: dict[str, Any] = {"end": [], "device": torch.device("cpu"), "do_sample": False}
    together = continue_text(student, prefixes, [4, 8, 2], **options)
    assert [len(text) for text in together] == [9, 9, 5]
    for prefix, room, text in zip(prefixes, [4, 8, 2], together, strict=True):
        (alone,) = continue_text(student, [prefix], [room], **options)
        assert torch.equal(alone, text)
        for at in range(len(prefix), len(text)):  # and as the model does without a cache
            logits = student({"input_ids": text[None, :at]}).logits()
            assert logits[0, -1].argmax() == text[at]


def test_a_continuation_ends_with_the_first_end_token() -> None:
    student: Any = toy.llama(seed=1).double()
    options: dict[str, Any] = {"device": torch.device("cpu"), "do_sample": False}
    (long,) = continue_text(student, [torch.tensor([3, 4])], [9], end=[], **options)
    last = int(long[2])
    (short, other) = continue_text(
        student, [torch.tensor([3, 4]), torch.tensor([5])], [9, 9], end=[last], **options
    )
    assert short.tolist() == [3, 4, last]  # ended at once
    assert last not in other[1:-1].tolist()
