"""Fragments of prompts are replaced by translations."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces import Trace, code_switch
from tests.data.traces.operators.planted import planted


def switched(prompt: Any, translations: Any, **options: Any) -> Any:
    (trace,) = code_switch([Trace(prompt, "r", prompt_id="q")], translations, p=1.0, **options)
    assert (trace.response, trace.prompt_id) == ("r", "q")
    return trace.prompt


@pytest.mark.parametrize(
    ("prompt", "translations", "expected"),
    [
        ("a cat, a cat.", {"cat": "Katze"}, "a Katze, a Katze."),
        ("cats concatenate a cat", {"cat": "Katze"}, "cats concatenate a Katze"),
        ("cat_2 cat2 cat-like", {"cat": "K"}, "cat_2 cat2 K-like"),
        ("New York is new", {"New": "Neu", "New York": "NY", "York": "Y"}, "NY is new"),
        ("New Yorker", {"New": "Neu", "New York": "NY"}, "Neu Yorker"),
        ("one two three", {"one two": "12", "two three": "23"}, "12 three"),
        ("Cat", {"cat": "Katze"}, "Cat"),  # letters as given
        ("don't", {"don": "x", "t": "y", "don't": "nicht"}, "nicht"),
        ("don't", {"don": "x", "t": "y"}, "don't"),
        ("'cat'", {"cat": "Katze"}, "'Katze'"),
        ("我的猫很好", {"猫": "cat", "很好": "fine"}, "我的catfine"),
        ("कीमत", {"क": "x"}, "कीमत"),  # a vowel sign belongs to its letter
        ("cafe\u0301 cafe", {"cafe": "x"}, "cafe\u0301 x"),
        ("a b", {"a": "b", "b": "a"}, "b a"),  # no translation is translated
        ("1 + 1 = ?", {"+": "plus", "?": "!"}, "1 plus 1 = !"),
        ("", {"a": "b"}, ""),
        ("a\\1", {"a": "\\g<0>"}, "\\g<0>\\1"),
    ],
    ids=range(17),
)
def test_whole_fragments_are_replaced(prompt: str, translations: Any, expected: str) -> None:
    assert switched(prompt, translations) == expected


def test_messages_of_the_user_are_changed() -> None:
    prompt: Any = [
        {"role": "system", "content": "a cat"},
        {"role": "user", "content": [{"type": "text", "text": "my cat"}]},
        {"role": "assistant", "content": "cat"},
        {"role": "user", "content": "cat"},
    ]
    texts = [message["content"] for message in switched(prompt, {"cat": "Katze"})]
    assert texts == ["a cat", [{"type": "text", "text": "my Katze"}], "cat", "Katze"]
    both = switched(prompt, {"cat": "Katze"}, roles=["assistant", "system"])
    assert [m["content"] for m in both] == ["a Katze", prompt[1]["content"], "Katze", "cat"]


def test_the_probability_is_that_of_each_fragment() -> None:
    traces = [Trace("word " * 50, "r", prompt_id=f"{i}") for i in range(40)]
    counts = {}
    for p in (0.0, 0.3, 1.0):
        kept = code_switch(traces, {"word": "Wort"}, p=p)
        counts[p] = sum(str(t.prompt).count("Wort") for t in kept)
        assert f"{counts[p]} of 2000 fragments" in kept.notes[0]
    assert counts[0.0] == 0
    assert counts[1.0] == 2000
    assert abs(counts[0.3] - 600) < 100  # five standard deviations
    assert code_switch(traces, {"word": "Wort"}, p=0.0) == sorted(traces, key=lambda t: t.prompt_id)


def test_seed_and_prompt_decide_and_nothing_else() -> None:
    traces = [Trace("word " * 20, f"r{i}", prompt_id=f"{i // 2}") for i in range(20)]
    first = code_switch(traces, {"word": "Wort"}, 0.5, 1)
    prompts = {t.prompt_id: t.prompt for t in first}
    assert all(t.prompt == prompts[t.prompt_id] for t in first)  # pairs stay pairs
    assert len(set(map(str, prompts.values()))) > 1
    shuffled = random.Random(0).sample(traces, len(traces))
    assert code_switch(shuffled, {"word": "Wort"}, 0.5, 1) == first
    assert code_switch(traces[:4], {"word": "Wort"}, 0.5, 1) == first[:4]
    assert code_switch(traces, {"word": "Wort"}, 0.5, 2) != first
    # a fragment that another mapping has, too, is drawn alike
    more = code_switch(traces, {"word": "Wort", "none": "kein"}, 0.5, 1)
    assert more == first


def test_a_missing_translation_is_counted_and_named() -> None:
    with pytest.warns(UserWarning, match="translation of 'dog': 2.*translate them"):
        kept = code_switch(
            [Trace("dog cat dog", "r")], {"dog": None, "cat": "Katze", "cow": ""}, p=1.0
        )
    assert kept[0].prompt == "dog Katze dog"
    assert kept.missing == {"translation of 'dog'": 2}
    assert kept.notes == ["changed: 1 of 1 traces, 1 of 3 fragments"]


def test_the_number_of_traces_and_the_responses_stay(tmp_path: Path) -> None:
    path = tmp_path / "translations.json"
    path.write_text(json.dumps({"prompt": "Aufgabe"}))
    kept = code_switch(planted(), str(path))
    assert [(t.prompt_id, t.response) for t in kept] == [
        (t.prompt_id, t.response) for t in sorted(planted(), key=lambda t: (t.prompt_id, t.teacher))
    ]
    assert 300 < sum("Aufgabe" in str(t.prompt) for t in kept) < 700


def test_many_fragments_and_a_long_prompt_are_quick() -> None:
    translations = {f"word{i} of {i}": "x" for i in range(50_000)}
    start = time.perf_counter()
    kept = code_switch([Trace("word7 of 7 " * 50_000, "r")], translations, p=1.0)
    assert str(kept[0].prompt) == "x " * 50_000
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"translations": {}}, "translations must hold at least one entry"),
        ({"translations": {" a": "b"}}, "fragments without spaces around them, got ' a'"),
        ({"translations": {"": "b"}}, "fragments without spaces around them, got ''"),
        ({"translations": {"a": 3}}, "the translation of 'a' must be a text"),
        ({"translations": {1: "a"}}, "a key of translations must be a text"),
        ({"translations": ["a"]}, "translations must be a mapping"),
        ({"p": 1.5}, r"p must be in \[0, 1\]"),
        ({"p": float("nan")}, "p must be a finite number"),
        ({"p": "1"}, "p must be a number"),
        ({"seed": 0.5}, "seed must be an integer"),
        ({"roles": []}, "roles must hold at least one role"),
        ({"roles": "user"}, "roles must be a list of texts"),
        ({"roles": 3}, "roles must be a list of texts"),
    ],
    ids=range(13),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        code_switch([], **{"translations": {"a": "b"}, **options})
