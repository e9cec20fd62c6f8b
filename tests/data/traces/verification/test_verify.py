"""Traces are divided by the score of a verifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.cli import main
from kdlight.data import read_traces
from kdlight.data.traces import Trace
from kdlight.data.traces.encode import Limits, encode
from kdlight.data.traces.verification.verifiers import exact
from kdlight.data.traces.verification.verify import verify_traces
from tests.support import tiny_lm


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


def test_a_bad_command_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["traces", "verify", "--files=[none.jsonl]", f"--output={tmp_path}"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: files: none.jsonl does not exist\n"


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), None, "1", "right", [1], 10**400],
    ids=lambda v: str(v)[:9],
)
def test_a_verifier_that_returns_no_finite_number_is_refused(value: Any) -> None:
    trace = Trace("p", "7", prompt_id="here")
    with pytest.raises(ValueError, match="must return a finite number or a bool, .*prompt 'here'"):
        verify_traces([trace], lambda trace: value)


def test_an_error_of_a_verifier_names_the_prompt() -> None:
    traces = [Trace("p", text, prompt_id=text) for text in ("7", "seven")]
    with pytest.raises(
        ValueError, match="failed on a trace of prompt 'seven': ValueError: invalid"
    ):
        verify_traces(traces, lambda trace: int(trace.response) == 7)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_must_be_finite(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be a finite number"):
        verify_traces([Trace("p", "7")], lambda trace: 1.0, threshold=threshold)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_what_is_correct_here_is_chosen_in_training(threshold: float) -> None:
    scores = [0.0, 0.4999, 0.5, 0.9, 1.0]
    traces = [Trace("p", str(i), meta={"score": score}) for i, score in enumerate(scores)]
    right, wrong, _ = verify_traces(traces, lambda t: t.meta["score"], threshold=threshold)
    options: dict[str, Any] = {"threshold": threshold, "chat": False, "limits": Limits()}
    for part, rejected in ((right, False), (wrong, True)):
        encoded, _ = encode(part, tiny_lm.tokenizer(), **options)
        assert [each.rejected for each in encoded] == [rejected] * len(part)


def test_an_unfinished_response_is_not_correct_at_any_threshold() -> None:
    trace = Trace("p", "7", finished=False)
    parts = verify_traces([trace], lambda trace: 1.0, threshold=-1.0)
    assert [len(part) for part in parts] == [0, 0, 1]
