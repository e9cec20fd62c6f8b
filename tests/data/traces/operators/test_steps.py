"""A response becomes one sample a step, and nothing of it is lost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces import Trace, TracesDataModule, serialise_steps, write_traces
from kdlight.data.traces.chat import prompt_ids, tokenize
from tests.support import tiny_lm

RESPONSE = "One and one.\n\nThat is two.\n\n\n\nIt is 2"
STEPS = ["One and one.\n\n", "That is two.\n\n\n\n", "It is 2"]
MESSAGES: Any = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
TRACE = Trace("1 + 1 =", RESPONSE, prompt_id="q", score=1, n_tokens=9, perplexity=2.0)


@pytest.mark.parametrize("finished", [None, True, False])
def test_each_step_follows_those_before_it(finished: bool | None) -> None:
    trace = Trace("1 + 1 =", RESPONSE, prompt_id="q", score=1, finished=finished, meta={"a": 1})
    kept = serialise_steps([trace])
    assert [t.response for t in kept] == STEPS
    asked: Any = {"role": "user", "content": "1 + 1 ="}
    assert kept[0].prompt == "1 + 1 ="
    assert [t.prompt for t in kept[1:]] == [
        [asked, {"role": "assistant", "content": "".join(STEPS[:n])}] for n in (1, 2)
    ]
    assert [t.finished for t in kept] == [False, False, finished]
    assert {(t.prompt_id, t.score, t.n_tokens, t.perplexity) for t in kept} == {
        ("q", 1, None, None)
    }
    assert [t.meta for t in kept] == [{"a": 1, "step": n, "steps": 3} for n in (1, 2, 3)]
    assert kept.notes == ["steps: 3 of 1 traces"]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("prompt", ["q", MESSAGES], ids=["text", "messages"])
@pytest.mark.parametrize("seed", range(10))
def test_the_tokens_are_those_of_the_whole_response(seed: int, prompt: Any, chat: bool) -> None:
    """With a tokenizer that merges nothing across the steps."""
    draw = random.Random(seed)
    text = "".join(draw.choices(["\n\n", "\n", "a", " b", "."], k=30)) + "."
    tokenizer = tiny_lm.tokenizer(chat=chat)
    whole = tokenize(Trace(prompt, text), tokenizer, chat=chat)
    kept = serialise_steps([Trace(prompt, text)])
    completion: list[int] = []
    for step in kept:
        tokens = tokenize(step, tokenizer, chat=chat)
        # what a model is given to go on from
        assert prompt_ids(step.prompt, tokenizer, chat=chat) == tokens.prompt
        assert tokens.prompt == whole.prompt + completion
        completion += tokens.completion
    assert completion == whole.completion  # with its end token, once


def test_a_prompt_that_has_begun_the_response_is_refused() -> None:
    begun: Any = [*MESSAGES, {"role": "assistant", "content": "One"}]
    with pytest.raises(ValueError, match="ends with a message of the assistant"):
        serialise_steps([Trace(begun, RESPONSE)])


def test_only_the_last_step_ends_the_turn_of_a_chat() -> None:
    tokenizer = tiny_lm.tokenizer(chat=True)
    end = tokenizer.eos_token_id
    kept = serialise_steps([Trace("q", RESPONSE)])
    rows = [tokenize(step, tokenizer, chat=True) for step in kept]
    assert [tokenizer.decode(row.completion) for row in rows] == [*STEPS[:2], STEPS[2] + "<end>"]
    assert tokenizer.decode(rows[1].prompt) == f"<|user|>q<end>\n<|assistant|>{STEPS[0]}"
    assert [row.completion.count(end) for row in rows] == [0, 0, 1]


def test_one_step_stays_as_it_is() -> None:
    traces = [Trace("q", text, n_tokens=3) for text in ("It is 2", "", "It is\n2\n\n")]
    kept = serialise_steps(traces)
    assert sorted(kept, key=lambda t: t.response) == sorted(traces, key=lambda t: t.response)
    once = serialise_steps([TRACE])
    assert serialise_steps(once[:1]) == once[:1]


def test_incorrect_traces_are_dropped() -> None:
    kept = serialise_steps([TRACE, Trace("q", RESPONSE, score=0.5), Trace("p", RESPONSE)])
    assert len(kept) == 6
    assert kept.dropped == {"incorrect": 1}
    assert len(serialise_steps([Trace("q", RESPONSE, score=0.5)], threshold=0.5)) == 3


def test_the_order_of_the_traces_does_not_matter() -> None:
    traces = [Trace(f"q{i % 3}", RESPONSE.replace("2", str(i))) for i in range(12)]
    expected = serialise_steps(traces)
    assert len(expected) == 36
    assert serialise_steps(random.Random(0).sample(traces, 12)) == expected


def test_the_data_module_serves_all_steps(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    write_traces(path, [Trace(f"{i} =", RESPONSE, score=1) for i in range(4)])
    data = TracesDataModule(
        lambda: None, str(path), select=["serialise_steps"], validation_fraction=0, batch_size=12
    )
    data.tokenizer = tiny_lm.tokenizer()
    data.setup()
    (batch,) = data.train_dataloader()
    assert len(batch["labels"]) == 12
    assert (batch["labels"] == data.tokenizer.eos_token_id).sum() == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": ""}, "split must be the text"),
        ({"split": None}, "split must be a text"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"threshold": "1"}, "threshold must be a number"),
    ],
    ids=range(4),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        serialise_steps([], **options)


def test_a_response_with_other_fields_is_named() -> None:
    trace = Trace("q", RESPONSE, response_fields={"reasoning_content": "One."})
    with pytest.raises(ValueError, match="serialise_steps needs responses that are texts"):
        serialise_steps([trace])
