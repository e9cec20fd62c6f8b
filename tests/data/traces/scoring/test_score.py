"""Fields are filled together, and a run that was killed is continued to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kdlight.data import read_traces
from kdlight.data.traces import (
    Trace,
    adaptive_difficulty,
    count_tokens,
    joint_rank,
    judge_difficulty,
    level_distribution,
    pass_rate_difficulty,
    perplexities,
    quality_filter,
    score_traces,
)
from kdlight.data.traces.scoring.fillers import PerplexityFiller
from kdlight.data.written_files import exclusive
from tests.data.traces.scoring.judges import constant_judge
from tests.support import tiny_lm

TRACES = [
    Trace(
        [{"role": "user", "content": f"{i % 7} + 1 ="}] if i % 2 else f"{i % 7} + 1 =",
        f" {'so ' * (i * i % 17)}{i % 7 + 1} é…😀",
        prompt_id=f"p{i % 7}",
        answer=[i],
        score=float(i % 3 > 0),
        finished=(True, None, False)[i % 3],
        teacher="tiny",
        meta={"note": "line\nbreak", "n": {"deep": [None, i]}},
    )
    for i in range(40)
] + [Trace("1 + 1 =", "", score=0), Trace("1 + 1 =", "x" * 300, score=1)]


@pytest.fixture(scope="module")
def network() -> Any:
    return tiny_lm.model().eval()


def known(values: Sequence[float | None]) -> list[float]:
    """Return the values that there are; those of the same traces are lacking everywhere."""
    assert [number for number, value in enumerate(values) if value is None] == [40, 41]
    return [value for value in values if value is not None]


def score(path: Path, network: Any, traces: Sequence[Trace] = TRACES, **options: Any) -> str:
    given: dict[str, Any] = {
        "model": network,
        "tokenizer": tiny_lm.tokenizer(),
        "tokens": True,
        "perplexity": True,
        "difficulty": "pass_rate",
        "batch_size": 2,
        **options,
    }
    return str(score_traces(traces, path, **given))


def test_the_fields_are_filled_and_all_others_stay(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    report = score(path, network)
    assert report == (
        "42 traces, n_tokens of 42, perplexity of 40 (without, empty response: 1, longer than the"
        " context of 256 tokens: 1), difficulty of 42"
    )
    got = read_traces(str(path))
    filled = ("n_tokens", "perplexity", "difficulty")
    for trace, before in zip(got, TRACES, strict=True):
        for each in fields(Trace):
            if each.name not in filled:
                assert getattr(trace, each.name) == getattr(before, each.name)
    tokenizer = tiny_lm.tokenizer()
    assert [trace.n_tokens for trace in got] == count_tokens(tokenizer, TRACES, chat=False)
    assert [trace.difficulty for trace in got] == pass_rate_difficulty(TRACES)
    expected = perplexities(network, tokenizer, TRACES, chat=False)
    found = known([trace.perplexity for trace in got])
    assert found == pytest.approx(known(expected), rel=1e-6)


def test_what_is_asked_for_alone_is_filled(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    score(path, None, tokenizer=None, tokens=False, perplexity=False)
    assert {trace.perplexity for trace in read_traces(str(path))} == {None}
    assert {trace.n_tokens for trace in read_traces(str(path))} == {None}
    score(tmp_path / "n.jsonl", None, perplexity=False, difficulty=None)
    assert {trace.difficulty for trace in read_traces(str(tmp_path / "n.jsonl"))} == {None}


def test_operators_take_what_it_wrote(network: Any, tmp_path: Path) -> None:
    """Those that refuse traces without these fields."""
    with pytest.raises(ValueError, match="kdlight traces score"):
        joint_rank(TRACES)
    score(tmp_path / "t.jsonl", network, levels=5)
    traces = read_traces(str(tmp_path / "t.jsonl"))
    assert len(joint_rank(traces)) == 4
    same = adaptive_difficulty(traces, total=8, weights=level_distribution(traces))
    assert len(same) == len(traces)  # all eight prompts
    kept = quality_filter([t for t in traces if t.perplexity], max_perplexity=1e9, repeats=99)
    assert len(kept) == 40


def test_the_judge_fills_difficulty(tmp_path: Path) -> None:
    model = constant_judge({"1": 1.0, "0": 0.0})
    options: dict[str, Any] = {"difficulty": "judge", "instruction": "1 or 0?"}
    options |= {"tokens": False, "perplexity": False, "levels": 4}
    assert score(tmp_path / "t.jsonl", model, **options) == "42 traces, difficulty of 42"
    expected = judge_difficulty(
        model, tiny_lm.tokenizer(), TRACES, chat=False, instruction="1 or 0?", levels=4
    )
    assert [trace.difficulty for trace in read_traces(str(tmp_path / "t.jsonl"))] == expected
    assert set(expected) == {3}


def test_an_old_value_is_replaced_or_removed(network: Any, tmp_path: Path) -> None:
    """A value under another model, in a file that is said to be of this one, would be wrong."""
    old = [replace(trace, perplexity=1.5, n_tokens=1) for trace in TRACES]
    score(tmp_path / "old.jsonl", network, old)
    score(tmp_path / "new.jsonl", network, TRACES)
    assert (tmp_path / "old.jsonl").read_bytes() == (tmp_path / "new.jsonl").read_bytes()


def test_the_batch_size_changes_rounding_only(network: Any, tmp_path: Path) -> None:
    for batch_size in (1, 7, 100):
        score(tmp_path / f"{batch_size}.jsonl", network, batch_size=batch_size)
    first, *others = (
        known([trace.perplexity for trace in read_traces(str(tmp_path / f"{size}.jsonl"))])
        for size in (1, 7, 100)
    )
    for found in others:
        assert found == pytest.approx(first, rel=1e-5)


class Stop(Exception):
    """The process is killed."""


@pytest.mark.parametrize("difficulty", ["pass_rate", "judge"])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_stopped_run_is_continued_to_the_same_bytes(
    calls: int, difficulty: str, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"difficulty": difficulty}
    if difficulty == "judge":
        options["instruction"] = "1 or 0?"
    expected = score(tmp_path / "whole.jsonl", network, **options)
    values, made = PerplexityFiller.values, []

    def stop(self: PerplexityFiller, traces: Sequence[Trace]) -> Any:
        made.append(len(traces))
        if len(made) > calls:
            raise Stop
        return values(self, traces)

    path = tmp_path / "t.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(PerplexityFiller, "values", stop)
        with pytest.raises(Stop):
            score(path, network, **options)
    assert (path.read_bytes().count(b"\n") if path.exists() else 0) == 16 * calls
    report = score(path, network, **options)
    assert report.split("; ")[0] == expected.split("; ")[0]
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": False}, "tokens: True in the file, False now"),
        ({"levels": 3}, "levels: None in the file, 3 now"),
        ({"threshold": 0.5}, "threshold: 0.9 in the file, 0.5 now"),
        ({"name": "other"}, "model: None in the file, 'other' now"),
        ({"batch_size": 4}, "batch_size of the model: 2 in the file, 4 now"),
        ({"difficulty": None}, "difficulty: 'pass_rate' in the file, None now"),
    ],
)
def test_another_run_is_not_continued(
    options: Any, message: str, network: Any, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    score(path, network)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"started with other settings \(.*{message}"):
        score(path, network, **options)
    assert path.read_bytes() == before
    settings = json.loads((tmp_path / "t.jsonl.settings.json").read_text())
    assert settings["dtype"] == "torch.float32"


def test_a_run_is_not_continued_with_other_weights(network: Any, tmp_path: Path) -> None:
    """Such as those of a student that was trained further and saved to the same folder."""
    path = tmp_path / "t.jsonl"
    score(path, network, name="student")
    with pytest.raises(ValueError, match=r"other settings \(weights: "):
        score(path, tiny_lm.model(seed=1), name="student")


@pytest.mark.parametrize("perplexity", [True, False])
def test_a_run_is_not_continued_with_another_tokenizer(
    perplexity: bool, network: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"perplexity": perplexity, "chat": True}
    tokenizer, path = tiny_lm.tokenizer(chat=True), tmp_path / "t.jsonl"
    model = network if perplexity else None
    score(path, model, tokenizer=tokenizer, **options)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|", "<").replace("|>", ">")
    with pytest.raises(ValueError, match=r"other settings \(tokenizer: "):
        score(path, model, tokenizer=tokenizer, **options)


def test_two_runs_do_not_write_one_file(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with exclusive(path), pytest.raises(ValueError, match="another process writes .*t.jsonl"):
        score(path, network)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tokens": False, "perplexity": False, "difficulty": None}, ValueError, "nothing to fill"),
        ({"difficulty": "hard"}, ValueError, "difficulty must be one of 'pass_rate', 'judge'"),
        ({"difficulty": None, "levels": 5}, ValueError, "levels=5 are of difficulty"),
        ({"levels": 1}, ValueError, "levels must be at least 2, got 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, got 2.5"),
        ({"model": None}, ValueError, "model is needed"),
        ({"tokenizer": None}, ValueError, "tokenizer is needed"),
        ({"traces": []}, ValueError, "traces must hold at least one trace, got none"),
        ({"instruction": "?"}, ValueError, "instruction has no effect without difficulty='judge'"),
        (
            {"difficulty": "judge", "threshold": 0.5},
            ValueError,
            "threshold=0.5 has no effect without difficulty='pass_rate'",
        ),
        ({"traces": [Trace("a", "1")]}, ValueError, "has no score"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(
    options: Any, error: Any, message: str, network: Any, tmp_path: Path
) -> None:
    given = {"network": network, **options}
    if "model" in options:
        given["network"] = given.pop("model")
    with pytest.raises(error, match=message):
        score(tmp_path / "t.jsonl", **given)
    assert list(tmp_path.iterdir()) == []
