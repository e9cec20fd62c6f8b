"""Tokens of responses are counted as where traces are generated, and where they are trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.data.traces import Sampling, Trace, count_tokens, generate_traces, read_traces
from kdlight.data.traces.encode import Limits, encode
from tests.support import tiny_lm

TRACES = [
    Trace("1 + 1 =", "2"),
    Trace("1 + 1 =", " so it is 2", finished=False),
    Trace("2 + 2 =", "", finished=True),
    Trace("2 + 2 =", "", finished=False),
    Trace([{"role": "user", "content": "hello"}], "the answer\nis 4", finished=True),
]


def test_a_character_is_a_token_and_an_end_is_one_more() -> None:
    assert count_tokens(tiny_lm.tokenizer(), TRACES, chat=False) == [2, 11, 1, 0, 16]
    assert count_tokens(tiny_lm.tokenizer(), [], chat=False) == []


@pytest.mark.parametrize("chat", [False, True])
def test_they_are_what_a_fit_is_trained_on(chat: bool) -> None:
    tokenizer = tiny_lm.tokenizer(chat=chat)
    encoded, _ = encode(TRACES, tokenizer, threshold=0.9, chat=chat, limits=Limits())
    counts = count_tokens(tokenizer, TRACES, chat=chat)
    assert [len(each.completion) for each in encoded] == [count for count in counts if count]


def test_generated_traces_are_counted_alike(tmp_path: Path) -> None:
    prompts = [Trace(f"{i} + 1 =", "") for i in range(4)]
    path = generate_traces(
        tiny_lm.model().eval(),
        tiny_lm.tokenizer(),
        prompts,
        tmp_path / "t.jsonl",
        sampling=Sampling(max_new_tokens=40, temperature=1.0),
        chat=False,
        samples=8,
    )
    traces = read_traces(str(path))
    traces = [each for each in traces if "<unknown>" not in each.response]  # one token, nine signs
    assert len({trace.finished for trace in traces}) == 2
    counts = count_tokens(tiny_lm.tokenizer(), traces, chat=False)
    assert counts == [trace.n_tokens for trace in traces]
