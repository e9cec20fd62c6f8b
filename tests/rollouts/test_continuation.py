"""Continuations of prefixes of different lengths, with a real language model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight import CausalLM
from kdlight.rollouts.continuation import continue_text
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


def gpt2(context: int) -> Any:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=11, n_embd=8, n_layer=1, n_head=2, n_positions=context)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CausalLM.wrap(AutoModelForCausalLM.from_config(config)).double().eval()


@pytest.mark.parametrize("room", [100, 12, 3])
def test_no_continuation_leaves_the_context_of_the_student(room: int) -> None:
    student = gpt2(16)  # whose 16 positions are a table
    prefixes = [torch.arange(length) % 11 for length in (3, 14, 9, 16, 20, 4)]
    options: dict[str, Any] = {"end": [], "device": torch.device("cpu"), "do_sample": False}
    texts = continue_text(student, prefixes, [room] * 6, **options)
    lengths = [min(len(prefix) + room, max(16, len(prefix))) for prefix in prefixes]
    assert [len(text) for text in texts] == lengths
    for prefix, text in zip(prefixes, texts, strict=True):
        assert torch.equal(text[: len(prefix)], prefix)
        for at in range(len(prefix), len(text)):
            logits = student({"input_ids": text[None, :at]}).logits()
            assert logits[0, -1].argmax() == text[at]
    assert continue_text(student, prefixes[3:4], [room], **options)[0] is prefixes[3]


def test_sequences_of_different_lengths_share_a_call_if_the_context_allows() -> None:
    calls = []

    class Counts(torch.nn.Module):
        context_length = 16

        def generate(self, ids: torch.Tensor, *, max_new_tokens: int, **options: Any) -> Any:
            calls.append((tuple(ids.shape), max_new_tokens))
            return torch.cat([ids, ids.new_ones(len(ids), max_new_tokens)], 1)

    options: dict[str, Any] = {"end": [], "device": torch.device("cpu")}
    prefixes = [torch.zeros(length, dtype=torch.long) for length in (12, 4, 5)]
    texts = continue_text(Counts(), prefixes, [4, 4, 4], **options)
    assert [len(text) for text in texts] == [16, 8, 9]
    assert calls == [((3, 12), 4)]
    texts = continue_text(Counts(), prefixes, [4, 12, 11], **options)
    assert [len(text) for text in texts] == [16, 16, 16]
    assert max(width + new for (_, width), new in calls) == 16
