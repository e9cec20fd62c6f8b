"""Operators are applied in order, checked before there are traces, and reported in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces import Compose, Trace, quality_filter, shortest_correct
from kdlight.data.traces.operators.compose import table
from tests.data.traces.operators.planted import planted

SELECT: list[Any] = [{"quality_filter": {"max_length": 12}}, "shortest_correct"]


def test_operators_are_applied_one_after_the_other() -> None:
    expected = shortest_correct(quality_filter(planted(), max_length=12))
    assert 0 < len(expected) < 200
    assert Compose(SELECT)(planted()) == expected
    assert Compose([{"shortest_correct": None}])(planted()) == shortest_correct(planted())


def test_each_step_tells_what_it_got_and_kept() -> None:
    steps = Compose(SELECT).steps(planted())
    assert [step.read for step in steps] == [1000, len(steps[0].kept)]
    for step in steps:
        assert step.read == len(step.kept) + sum(step.kept.dropped.values())
    lines = table(steps).split("\n")
    assert lines[0].split() == ["operator", "read", "kept", "dropped", "why"]
    assert lines[1].split()[:4] == ["quality_filter", "1,000", f"{steps[1].read}", "99"]
    assert "longer than max_length: 99" in lines[1]


def mine(traces: list[Trace], *, keep: int) -> list[Trace]:
    return traces[:keep]


def test_operators_of_a_user_are_given_by_name_or_as_functions(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def first(traces):\n    return traces[:1]\n")
    assert len(Compose([f"{path}:first"])(planted())) == 1
    module = "tests.data.traces.operators.test_compose:mine"
    (step,) = Compose([{module: {"keep": 3}}]).steps(planted())
    assert (step.name, len(step.kept)) == (module, 3)
    assert "997" in table([step])
    (step,) = Compose([lambda traces: traces[1:]]).steps(planted())
    assert (step.name, len(step.kept)) == ("<lambda>", 999)


def test_an_operator_of_a_user_that_keeps_all_has_numbers_of_its_own() -> None:
    def shortened(traces: list[Trace]) -> list[Trace]:
        del traces[2:]
        return traces

    given = planted()
    steps = Compose(["shortest_correct", lambda traces: traces, shortened]).steps(given)
    assert [len(step.kept) for step in steps[1:]] == [steps[1].read, 2]
    assert steps[1].kept.dropped == {}
    assert steps[2].read == len(steps[1].kept) > 2
    Compose([shortened]).steps(given)
    assert len(given) == 1000


def nothing(traces: list[Trace]) -> None:
    traces.sort(key=lambda trace: trace.prompt_id)


def fails(traces: list[Trace]) -> list[Trace]:
    return [{}[len(traces)]]


HERE = "tests.data.traces.operators.test_compose"


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ([], "select must hold at least one operator, got none"),
        (5, "select must be a list of operators"),
        ([5], "select: operator 1 must be a name"),
        (["quality_filte"], "select: operator 1: no operator 'quality_filte'.*quality_filter"),
        ([{"quality_filter": {}, "joint_rank": {}}], "a mapping of one name"),
        ([{"quality_filter": [1]}], "'quality_filter' must be a mapping of parameters"),
        ([{"quality_filter": {"ngrams": 3}}], "no parameter 'ngrams'; did you mean ngram?"),
        ([{"quality_filter": {"traces": []}}], "has no parameter 'traces'"),
        ([{"adaptive_difficulty": {}}], "needs the parameter total"),
        (
            ["joint_rank", {"joint_rank": {"keep": 3}}],
            r"operator 2, 'joint_rank': keep must",
        ),
        ([{"shortest_correct": {"n": "two"}}], "'shortest_correct': n must be an integer"),
        ([{"shortest_correct": 0}], "must be a mapping of parameters"),
        ([{1: {}}], "the name must be a text"),
        ([f"{HERE}:nothing"], "must return a list of traces, got None"),
        ([f"{HERE}:fails"], "fails on an empty list: KeyError: 0"),
        ([lambda traces: ["text"]], "what the operator '<lambda>' returns must be traces"),
    ],
    ids=range(16),
)
def test_what_is_wrong_is_found_before_there_are_traces(operators: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Compose(operators)
