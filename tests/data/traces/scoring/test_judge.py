"""The difficulty by a judge is P("1") among the two most likely first tokens."""

from __future__ import annotations

from math import exp, inf, log
from typing import Any

import pytest
import torch

from kdlight.data.traces import Trace, judge_difficulty
from kdlight.data.traces.scoring.judge import (
    INSTRUCTION,
    judge,
    problem_of,
    question_ids,
)
from tests.data.traces.scoring.judges import constant_judge, differing_judge
from tests.support import tiny_lm

TRACES = [Trace("1 + 1 =", "2"), Trace("Prove it.", "so"), Trace("1 + 1 =", "3")]


def difficulty(model: Any, traces: list[Trace] = TRACES, **options: Any) -> list[float | None]:
    """Judge with a short instruction: a character is a token, and the context has 256."""
    options = {"instruction": "1 if hard, else 0", "chat": False, **options}
    return judge_difficulty(model, tiny_lm.tokenizer(chat=options["chat"]), traces, **options)


@pytest.mark.parametrize(
    ("p", "rest"), [(0.1, 0.0), (0.5, 0.0), (0.999, 0.0), (0.1, 0.05), (0.5, 0.2), (0.7, 0.1)]
)
def test_it_is_the_share_of_1_among_the_two_most_likely(p: float, rest: float) -> None:
    """The probabilities are p and 1 - p of what the third token and others leave."""
    scale = 1 - 2 * rest
    logits = {"1": log(p * scale), "0": log((1 - p) * scale)}
    if rest:
        logits |= {"y": log(rest), "n": log(rest)}
    values = difficulty(constant_judge(logits, others=-inf))
    assert values == pytest.approx([p] * 3, rel=1e-5)


def test_any_other_token_can_be_the_second() -> None:
    values = difficulty(constant_judge({"1": 2.0, "H": 1.0, "0": 0.0}))
    assert values == pytest.approx([1 / (1 + exp(-1))] * 3, rel=1e-6)


def test_it_is_0_where_1_is_not_among_the_two() -> None:
    values = difficulty(constant_judge({"0": 2.0, "n": 1.0, "1": 0.9}))
    assert values == [0.0] * 3
    assert {type(value) for value in values} == {float}


def test_a_judge_that_answers_neither_is_told() -> None:
    model = constant_judge({"H": 2.0, "E": 1.0, "1": 0.9, "0": 0.8})
    with pytest.warns(UserWarning, match="to 2 of 2 prompts, neither 0 nor 1 is among the two"):
        assert difficulty(model) == [0.0] * 3


def test_it_is_the_formula_on_the_logits_of_transformers() -> None:
    """A model that reads the question, unlike those above; each question by itself."""
    model = differing_judge()
    one = tiny_lm.tokenizer().convert_tokens_to_ids("1")
    traces = [Trace(f"problem {i}", "") for i in range(9)]
    expected = []
    for trace in traces:
        row = question_ids(str(trace.prompt), "1 or 0", tiny_lm.tokenizer(), chat=False)
        with torch.no_grad():
            probabilities = model(torch.tensor([row])).logits[0, -1].double().softmax(-1)
        top = probabilities.topk(2)
        is_one = top.indices == one
        expected.append((top.values[is_one].sum() / top.values.sum()).item())
    for batch_size in (1, 4, 100):
        judgements = judge(
            model,
            tiny_lm.tokenizer(),
            [str(trace.prompt) for trace in traces],
            chat=False,
            batch_size=batch_size,
            instruction="1 or 0",
        )
        assert [each and each.difficulty for each in judgements] == pytest.approx(
            expected, rel=1e-4, abs=1e-9
        )
    assert len({round(value, 4) for value in expected}) > 3


@pytest.mark.parametrize("levels", [2, 5])
def test_levels(levels: int) -> None:
    (value, *_) = difficulty(constant_judge({"1": log(0.7), "0": log(0.3)}), levels=levels)
    assert value == {2: 2, 5: 4}[levels]
    assert isinstance(value, int)


def test_a_prompt_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = constant_judge({"1": 1.0, "0": 0.0})
    rows = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda *a, **k: rows.append(len(k["input_ids"])) or forward(*a, **k)
    )
    difficulty(model, TRACES * 5)
    assert sum(rows) == 2


def test_a_prompt_beyond_the_context_is_none() -> None:
    traces = [Trace("x" * 300, ""), *TRACES]
    (first, *others) = difficulty(constant_judge({"1": 1.0, "0": 0.0}), traces)
    assert first is None
    assert None not in others


def test_no_traces_have_no_difficulty() -> None:
    assert difficulty(constant_judge({}), []) == []


def test_the_judge_reads_all_but_system_messages() -> None:
    system = {"role": "system", "content": "Think."}
    asks = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    assert problem_of([system, *asks]) == "one\n\ntwo"
    assert problem_of([system]) == "Think."
    assert problem_of("text") == "text"
    assert problem_of([{**system, "role": "developer"}, *asks]) == "one\n\ntwo"


def test_the_judge_reads_parts_of_text_and_tool_calls() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    prompt = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3"},
    ]
    asked, called, told = problem_of(prompt).split("\n\n")
    assert (asked, told) == ("one two", "3")
    assert '"add"' in called
    judge = constant_judge({"1": 1.0, "0": 1.0})
    assert difficulty(judge, [Trace(prompt[:1], "")]) == [0.5]


REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (tiny_lm.CHATML, "<|system|>1 or 0?<end>\n<|user|>2 + 2<end>\n<|assistant|>"),
        (REFUSES_SYSTEM, "<user>1 or 0?\n\n2 + 2<assistant>"),
        (DROPS_SYSTEM, "<user>1 or 0?\n\n2 + 2<assistant>"),
        (None, "1 or 0?\n\n2 + 2\n\nAnswer:"),
    ],
    ids=["chatml", "refuses", "drops", "none"],
)
def test_the_question_holds_the_instruction_whatever_the_template(
    template: str | None, text: str
) -> None:
    tokenizer = tiny_lm.tokenizer()
    tokenizer.chat_template = template
    ids = question_ids("2 + 2", "1 or 0?", tokenizer, chat=template is not None)
    assert tokenizer.decode(ids) == text


def test_the_chat_template_is_used() -> None:
    model = constant_judge({"1": 1.0, "0": 0.0})
    assert difficulty(model, chat=True) == difficulty(model)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"instruction": " \n"}, ValueError, "instruction must tell the judge what to do"),
        ({"instruction": 1}, TypeError, "instruction must be a text, got 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"levels": 1}, ValueError, "levels must be at least 2, got 1"),
    ],
)
def test_wrong_arguments_are_named_without_traces(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        difficulty(constant_judge({}), [], **options)


def test_a_broken_judge_is_named() -> None:
    with pytest.raises(ValueError, match="the judge gives logits that are NaN"):
        difficulty(constant_judge({"1": float("nan")}))


def test_the_instruction_asks_for_both_digits() -> None:
    assert "1 if" in INSTRUCTION
    assert "0 if" in INSTRUCTION
