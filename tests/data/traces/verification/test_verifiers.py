"""Verifiers: the built-in ones, functions of a user, and reasoning-gym."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.verification.verifiers import (
    exact,
    find_verifier,
    math,
    number,
    reference_answer,
)


@pytest.mark.parametrize(
    ("verifier", "response", "right"),
    [
        (exact, "so\n7\n", True),
        (exact, r"so \boxed{7}, I think", True),
        (exact, "<answer>7</answer>", True),
        (exact, "The answer is 7.\nI am sure.", True),
        (exact, "<think>7</think>\n8", False),
        (exact, r"\boxed{8}\n7", False),
        (exact, "", False),
        (exact, "it is 7", False),
        (number, "3 + 4 = 7.", True),
        (number, "7 or 8", False),
        (number, "none", False),
        (number, "7.0", True),
    ],
)
def test_built_in_verifiers(verifier: Any, response: str, right: bool) -> None:
    assert verifier(Trace("3 + 4 =", response, answer="7")) is right


@pytest.mark.parametrize(
    "response", ["The answer is:\n7", "**Answer:**\n\n$$\n7\n$$", "so\n\\[\n7\n\\]", "答案是：\n7"]
)
def test_an_answer_on_a_line_of_its_own_is_found_by_all(response: str) -> None:
    pytest.importorskip("math_verify", reason="the extra math is not installed")
    for verifier in (exact, number, math):
        assert verifier(Trace("p", response, answer="7")) is True
        assert verifier(Trace("p", response, answer="8")) is False


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("a\nb", True),
        ("a\r\nb \n", True),
        ("so\n\na\nb", True),
        ("The answer is:\na\nb", True),
        ("```\na\nb\n```", True),
        ("<think>b</think>a\nb", True),
        ("<answer>\na\nb\n</answer>", True),
        ("a", False),
        ("b", False),
        ("b\na", False),
        ("a\nb\nc", False),
        ("<think>a\nb</think>c", False),
        ("<answer>c</answer>\na\nb", False),
        ("", False),
    ],
)
def test_a_reference_of_several_lines_is_compared_with_the_last_ones(
    response: str, right: bool
) -> None:
    assert exact(Trace("p", response, answer="a\nb")) is right


def test_an_answer_that_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no answer to compare"):
        exact(Trace("p", "r"))
    with pytest.raises(ValueError, match="has no answer to compare"):
        exact(Trace("p", "", answer=""))
    for answer in ("blue", "x = 1, y = 2"):
        with pytest.raises(ValueError, match="must be a number"):
            number(Trace("p", "2", answer=answer))


@pytest.mark.parametrize(
    "name", ["nobody", "math:nothing", "math:pi", "math:", "no/such/file.py:f"]
)
def test_an_unknown_verifier_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"no verifier '{name}'.*known: (exact, num|math)"):
        find_verifier(name)


@pytest.mark.parametrize("code", ["def f(:", "1 / 0", "raise SystemError"])
def test_a_file_that_cannot_be_run_is_named(code: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises(
        ValueError, match=f"no verifier '{path}:f'.*(Syntax|ZeroDivision|System)Err"
    ):
        find_verifier(f"{path}:f")


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (7, "7"),
        (" Paris ", "Paris"),
        (r"so \boxed{7}", "7"),
        ("48 + 24 = 72\n#### 72", "72"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_a_reference_can_have_a_derivation(answer: Any, reference: str) -> None:
    assert reference_answer(Trace("p", "", answer=answer)) == reference


def test_formulas_are_compared_by_math_verify() -> None:
    pytest.importorskip("math_verify", reason="the extra math is not installed")
    assert find_verifier("math") is math
    for response, right in ((r"\boxed{1+x}", True), (r"\boxed{x}", False), ("", False)):
        assert math(Trace("p", response, answer="x+1")) is right
    with pytest.raises(ValueError, match="has no answer to compare"):
        math(Trace("p", "r"))
    for answer in ("1+" * 1000 + "1", "???"):
        with pytest.raises(ValueError, match="formula that math-verify can read, and compare"):
            math(Trace("p", "7", answer=answer))


def test_a_trace_that_is_no_task_of_reasoning_gym_is_named() -> None:
    with pytest.raises(ValueError, match="prompt 'here' is no task of reasoning-gym"):
        find_verifier("reasoning_gym")(Trace("p", "r", prompt_id="here"))


def test_reasoning_gym_gives_prompts_and_verifies() -> None:
    pytest.importorskip("reasoning_gym", reason="the extra gym is not installed")
    source = "reasoning_gym:chain_sum"
    prompts = read_prompts(source, size=5, seed=1, options={"max_terms": 3})
    assert prompts == read_prompts(source, size=5, seed=1, options={"max_terms": 3})
    assert len({prompt.prompt_id for prompt in prompts}) == 5
    verifier = find_verifier("reasoning_gym")
    for prompt in prompts:
        said = [f"I think\n{prompt.answer}", "0.5"]
        scores = [
            verifier(Trace(prompt.prompt, r, answer=prompt.answer, meta=prompt.meta)) for r in said
        ]
        assert scores[0] == 1.0
        assert scores[1] < 0.9
    with pytest.raises(ValueError, match="cannot make 'nothing'"):
        read_prompts("reasoning_gym:nothing")
