"""Pass rates with and without reasoning are compared by prompt."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from kdlight.data.traces import Trace, reasoning_helps, without_thinking


def solved(name: str, right: int, wrong: int, thinking: str = "") -> list[Trace]:
    return [
        Trace(f"q{name}", f"{thinking}{i}", prompt_id=name, score=float(i < right))
        for i in range(right + wrong)
    ]


def test_the_planted_differences_are_found() -> None:
    with_ = [*solved("helps", 4, 0), *solved("harms", 1, 3), *solved("same", 2, 2)]
    without = [*solved("same", 1, 1), *solved("helps", 1, 3), *solved("harms", 2, 0)]
    expected = {"harms": -0.75, "helps": 0.75, "same": 0.0}
    assert reasoning_helps(with_, without) == expected
    assert list(reasoning_helps(with_, without)) == sorted(expected)
    shuffled = random.Random(0).sample(with_, len(with_))
    assert reasoning_helps(shuffled, without[::-1]) == expected
    swapped = reasoning_helps(without, with_)
    assert swapped == {name: -value for name, value in expected.items()}


def test_the_result_selects_which_traces_keep_their_reasoning(tmp_path: Path) -> None:
    thoughts = "<think>Let us see.</think>"
    with_ = [*solved("helps", 1, 0, thoughts), *solved("idle", 1, 0, thoughts)]
    helps = reasoning_helps(with_, [*solved("helps", 0, 1), *solved("idle", 1, 0)])
    path = tmp_path / "helps.json"
    path.write_text(json.dumps(helps))
    for given in (helps, str(path)):
        kept = {t.prompt_id: t.response for t in without_thinking(with_, helps=given, fill=None)}
        assert kept == {"helps": f"{thoughts}0", "idle": "0"}


def test_prompts_of_one_kind_are_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="leaves out 2 prompts .* compares 1"):
        found = reasoning_helps(
            [*solved("both", 1, 0), *solved("a", 1, 0)], [*solved("both", 0, 1), *solved("b", 1, 0)]
        )
    assert found == {"both": 1.0}
    assert reasoning_helps([], []) == {}


def test_what_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(ValueError, match="no prompt_id is in both: 'a' and 'b'"):
        reasoning_helps(solved("a", 1, 0), solved("b", 1, 0))
    with pytest.raises(ValueError, match="has no score"):
        reasoning_helps([Trace("q", "1")], [Trace("q", "1", score=1)])
    with pytest.raises(ValueError, match="threshold must be a finite number"):
        reasoning_helps([], [], threshold=float("nan"))
