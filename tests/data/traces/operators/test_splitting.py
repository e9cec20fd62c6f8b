"""Steps and thoughts make up the text that is split."""

from __future__ import annotations

import random
import time

import pytest

from kdlight.data.traces.operators.splitting import (
    begins_with,
    check_split,
    split_steps,
    split_thoughts,
)


@pytest.mark.parametrize("seed", range(30))
def test_steps_and_thoughts_make_up_the_text(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choices(["\n\n", "\n", " ", "a", "Wait", "wait, b.", "é", "。"], k=40))
    for split in ("\n\n", "\n", "a", " "):
        steps = split_steps(text, split)
        assert "".join(steps) == text
        assert all(step.strip() for step in steps) or not text.strip()
        assert all(
            step.endswith(split) or not step.rpartition(split)[2].strip() for step in steps[:-1]
        )
        thoughts = split_thoughts(text, ["wait"], split)
        assert "".join(thoughts) == text
        assert all(begins_with(thought, ["wait"]) for thought in thoughts[1:])
        for thought in thoughts:  # which is made of whole steps
            first, *others = split_steps(thought, split)
            assert not any(begins_with(step, ["wait"]) for step in others)
            assert any(step.startswith(first) or first.startswith(step) for step in steps)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        (" ", [" "]),
        ("\n\n", ["\n\n"]),
        ("one", ["one"]),
        ("one\n\n", ["one\n\n"]),
        ("\n\none\n\ntwo", ["\n\none\n\n", "two"]),
        ("one\n\n\n\n\ntwo", ["one\n\n\n\n", "\ntwo"]),
        ("one\n\n \n\ntwo", ["one\n\n \n\n", "two"]),
    ],
    ids=range(8),
)
def test_no_step_is_blank(text: str, steps: list[str]) -> None:
    assert split_steps(text) == steps


@pytest.mark.parametrize(
    ("step", "begins"),
    [
        ("Wait, no", True),
        ("  wAIT", True),
        ("wait", True),
        ("Waiting", False),
        ("await", False),
        ("But wait, no", True),
        ("But waiting", False),
        ("", False),
        ("等等，不对", True),
        ("wait2", False),
    ],
    ids=range(10),
)
def test_a_transition_is_whole_words(step: str, begins: bool) -> None:
    assert begins_with(step, ["wait", "but wait", "等等，"]) is begins


@pytest.mark.parametrize("text", ["\n" * 1_000_000, "a\n\n" * 300_000, "wait\n\n" * 150_000])
def test_a_million_characters_are_split_quickly(text: str) -> None:
    start = time.perf_counter()
    assert "".join(split_thoughts(text, ["wait"])) == text
    assert time.perf_counter() - start < 10


def test_a_separator_is_a_text() -> None:
    with pytest.raises(ValueError, match="split must be the text that ends a step"):
        check_split("")
    with pytest.raises(TypeError, match="split must be a text, got 2"):
        check_split(2)  # type: ignore[arg-type]
