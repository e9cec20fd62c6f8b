"""Scores of responses, by built-in verifiers, functions and reasoning-gym."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.cli import main
from kdlight.data import read_traces
from kdlight.data.traces import Trace
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.verify import exact, find_verifier, number, verify_traces


@pytest.mark.parametrize(
    ("verifier", "response", "right"),
    [
        (exact, "so\n7\n", True),
        (exact, "it is 7", False),
        (number, "3 + 4 = 7.", True),
        (number, "7 or 8", False),
        (number, "none", False),
        (number, "7.0", True),
    ],
)
def test_built_in_verifiers(verifier: Any, response: str, right: bool) -> None:
    assert verifier(Trace("3 + 4 =", response, answer="7")) is right


def test_an_answer_that_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no answer to compare"):
        exact(Trace("p", "r"))
    with pytest.raises(ValueError, match="must be a number"):
        number(Trace("p", "r", answer="blue"))


def test_unfinished_responses_are_separate() -> None:
    traces = [
        Trace("p", "7", answer="7", finished=True),
        Trace("p", "8", answer="7"),
        Trace("p", "7", answer="7", finished=False),
    ]
    right, wrong, neither = verify_traces(traces, exact)
    assert [len(each) for each in (right, wrong, neither)] == [1, 1, 1]
    assert [len(each) for each in verify_traces(traces, exact, keep_unfinished=True)] == [1, 2, 0]
    assert [trace.score for trace in right + wrong + neither] == [1.0, 0.0, 0.0]


def test_the_command_verifies_with_a_function_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def even(trace):\n    return int(trace.response) % 2 == 0\n")
    path = tmp_path / "t.jsonl"
    path.write_text("".join(Trace("p", str(i)).to_json() + "\n" for i in range(5)))
    verifier = f"{tmp_path / 'mine.py'}:even"
    main(
        ["traces", "verify", f"--files=[{path}]", f"--output={tmp_path}", f"--verifier={verifier}"]
    )
    assert "3 positive, 2 negative" in capsys.readouterr().out
    for name, responses in (("positives", "024"), ("negatives", "13")):
        found = read_traces(str(tmp_path / f"{name}.jsonl"))
        assert "".join(trace.response for trace in found) == responses
        assert {trace.score for trace in found} == {float(name == "positives")}


@pytest.mark.parametrize("name", ["nobody", "math:nothing", "no/such/file.py:f"])
def test_an_unknown_verifier_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=f"no verifier '{name}'.*known: exact, number"):
        find_verifier(name)


def test_a_bad_command_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["traces", "verify", "--files=[none.jsonl]", f"--output={tmp_path}"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: files: none.jsonl does not exist\n"


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
