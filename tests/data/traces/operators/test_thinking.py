"""Reasoning in tags is split from the answer, and replaced."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from kdlight.data.traces import Trace, split_thinking, without_thinking
from kdlight.data.traces.operators.thinking import FILL


@pytest.mark.parametrize(
    ("response", "thinking", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        ("<think>\na\n</think>\n\nb", "\na\n", "\n\nb"),
        ("  <think>a</think>b", "a", "b"),
        ("b", "", "b"),
        ("", "", ""),
        ("a</think>b", "a", "b"),  # the prompt has the opening tag
        ("</think>b", "", "b"),
        ("<think></think>b", "", "b"),
        ("<think>a", "a", ""),
        ("<think>a</think>", "a", ""),
        ("<think>a</think>b</think>c", "a</think>b", "c"),
        ("<think>a</think>\n<think>b", "a</think>\n<think>b", ""),
        ("Sure.\n<think>a", "Sure.\n<think>a", ""),
        ("Use the tag <think> for it.", "", "Use the tag <think> for it."),
        ("<think>a</think>Use <think>.", "a", "Use <think>."),
        ("Sure. <think>a</think>b", "Sure. <think>a", "b"),
    ],
    ids=range(16),
)
def test_a_response_is_split_at_its_last_closing_tag(
    response: str, thinking: str, answer: str
) -> None:
    assert split_thinking(response) == (thinking, answer)
    assert split_thinking(response).answer == answer
    own = response.replace("<think>", "[T]").replace("</think>", "[/T]")
    expected = tuple(
        part.replace("<think>", "[T]").replace("</think>", "[/T]") for part in (thinking, answer)
    )
    assert split_thinking(own, opening="[T]", closing="[/T]") == expected


@pytest.mark.parametrize("seed", range(50))
def test_no_character_is_lost(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choices(["<think>", "</think>", "a", " ", "\n", "é"], k=12))
    thinking, answer = split_thinking(text)
    assert text.endswith(thinking + answer if not thinking else answer)
    for between in ("", "</think>"):
        if text.endswith(thinking + between + answer):
            head = text[: len(text) - len(thinking + between + answer)]
            assert head.strip() in ("", "<think>")
            break
    else:
        raise AssertionError(text)


@pytest.mark.parametrize(
    ("response", "fill", "expected"),
    [
        ("<think>\na\n</think>\n\nb", FILL, f"<think>\n{FILL}\n</think>\n\nb"),
        ("<think>a</think>b", "", "<think></think>b"),
        ("<think>\n\n</think>b", "x", "<think>\nx\n</think>b"),
        ("<think></think>b", "x", "<think>x</think>b"),
        ("a\n</think>b", "x", "x\n</think>b"),
        ("<think>a</think>\n\nb", None, "b"),
        ("a</think>b", None, "b"),
        ("b", "x", "b"),
        ("<think>a</think>b</think>c", "x", "<think>x</think>c"),
    ],
    ids=range(9),
)
def test_reasoning_is_replaced_within_its_white_space(
    response: str, fill: str | None, expected: str
) -> None:
    trace = Trace("q", response, score=1.0, n_tokens=9, perplexity=2.0, finished=True)
    kept = without_thinking([trace], fill=fill)
    assert [t.response for t in kept] == [expected]
    changed = response != expected
    assert (kept[0].n_tokens is None) == (kept[0].perplexity is None) == changed
    assert kept[0].score == 1.0
    assert without_thinking(kept, fill=fill) == kept
    assert kept.notes == ["without reasoning: 1" if changed else "kept, no reasoning: 1"]


@pytest.mark.parametrize("finished", [None, True, False])
def test_a_cut_answer_stays_unfinished(finished: bool | None) -> None:
    (kept,) = without_thinking([Trace("q", "<think>a</think>It is", finished=finished)])
    assert kept.finished is finished


def test_traces_without_an_answer_are_dropped_and_counted() -> None:
    responses = ["<think>a", "<think>a</think> \n", "<think>a</think>b", "b"]
    kept = without_thinking([Trace("q", text) for text in responses], fill=None)
    assert [t.response for t in kept] == ["b", "b"]
    assert kept.dropped == {"no answer after the reasoning": 2}


def test_reasoning_in_a_field_is_replaced_there() -> None:
    trace = Trace("q", "2", n_tokens=9, response_fields={"reasoning_content": "One.", "name": "x"})
    (filled,) = without_thinking([trace], fill="Easy.")
    assert filled.response_fields == {"reasoning_content": "Easy.", "name": "x"}
    assert (filled.response, filled.n_tokens) == ("2", None)
    for fill in ("", None):
        (bare,) = without_thinking([trace], fill=fill)
        assert bare.response_fields == {"name": "x"}
    assert without_thinking([filled], fill="Easy.") == [filled]
    silent = Trace("q", "", response_fields={"thinking": "One."})
    assert without_thinking([silent]).dropped == {"no answer after the reasoning": 1}
    calls = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    caller = Trace("q", "", response_fields={"thinking": "One.", "tool_calls": calls})
    assert [t.response_fields for t in without_thinking([caller], fill=None)] == [
        {"tool_calls": calls}
    ]


def test_reasoning_is_kept_where_it_helps() -> None:
    traces = [
        Trace("q", "<think>a</think>b", prompt_id=name) for name in ("helps", "same", "harms", "?")
    ]
    helps = {"helps": 0.5, "same": 0.0, "harms": -1.0, "unused": 1.0}
    with pytest.warns(UserWarning, match="missing prompts in helps: 1"):
        kept = without_thinking(traces, helps=helps, fill=None)
    assert {t.prompt_id: len(t.response) > 1 for t in kept} == {
        "helps": True,
        "same": False,
        "harms": False,
        "?": True,
    }
    assert kept.missing == {"prompts in helps": 1}
    flags = {"helps": True, "same": False, "harms": False, "?": False}
    assert len([t for t in without_thinking(traces, helps=flags) if "a" in t.response[7:8]]) == 1


def test_a_million_characters_are_split_quickly() -> None:
    for text in (
        "<think>" * 150_000,
        "</think>" * 120_000,
        "\n" * 1_000_000,
        "\n<think " * 120_000,
    ):
        start = time.perf_counter()
        without_thinking([Trace("q", text)])
        assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opening": ""}, "opening must be a tag"),
        ({"closing": " "}, "closing must be a tag"),
        ({"closing": None}, "closing must be a text"),
        ({"opening": "</think>"}, "opening and closing must be two tags"),
        ({"opening": "think>"}, "opening and closing must be two tags"),
        ({"fill": "a</think>b"}, "fill must be without the tags"),
        ({"fill": 3}, "fill must be a text"),
        ({"helps": {}}, "helps must hold at least one entry"),
        ({"helps": {"a": "yes"}}, "helps must be a number"),
        ({"helps": {"a": float("nan")}}, "helps must be a finite number"),
        ({"helps": "none.json"}, "helps: none.json does not exist"),
    ],
    ids=range(11),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        without_thinking([], **options)
    if "opening" in options or "closing" in options:
        with pytest.raises((TypeError, ValueError), match=message):
            split_thinking("", **options)
