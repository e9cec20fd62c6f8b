"""What recipes work with; what it makes is the same on all ranks in test_rounds_ranks.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.callbacks.round_recipes.work import in_order_of, numbered, responses, scored
from kdlight.data.traces import Trace, number
from kdlight.data.traces.sums import sample_sums, solve_sums
from tests.support.round_work import learned, work

__all__ = ["learned"]  # the fixture

PROMPTS = sample_sums(6, seed=0)


def test_prompts_are_numbered_and_answers_come_back_in_order() -> None:
    tasks = numbered(PROMPTS[:3], [2, 0, 1])
    assert [task.meta["generation"] for task in tasks] == [0, 1, 0]
    assert in_order_of(tasks, tasks[::-1]) == tasks


def test_an_unfinished_answer_has_no_score() -> None:
    tasks = numbered([Trace("1+1=", "", answer="2")], samples=3)
    said = responses(tasks, ["2", Trace("", "2", finished=False), "3"])
    assert [each.score for each in scored(said, number)] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("answers", "error", "match"),
    [
        pytest.param(["2"], ValueError, "one answer to each of 6 prompts, got 1", id="one"),
        pytest.param([2] * 6, TypeError, "answer must return texts, .* got int", id="numbers"),
        pytest.param("222222", TypeError, "result of answer must be a list of texts", id="text"),
        pytest.param(dict.fromkeys("abcdef"), TypeError, "must be a list of texts", id="mapping"),
        pytest.param(None, TypeError, "result of answer must be a list .* got None", id="nothing"),
    ],
)
def test_a_function_must_answer_each_prompt(
    learned: Any, answers: Any, error: Any, match: str
) -> None:
    with pytest.raises(error, match=match):
        work(learned).called("teacher", numbered(PROMPTS), lambda tasks: answers, critic=number)


def test_a_critic_that_draws_is_continued_as_it_would_have_been(learned: Any) -> None:
    def critic(trace: Trace) -> float:
        return float(torch.rand(()))

    tasks, found = numbered(PROMPTS, samples=4), []
    for _ in range(2):
        one = work(learned)
        found.append([each.score for each in one.answers("student", tasks, critic=critic)])
        path = one.folder / "student.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: one.batch_size]))  # interrupted after a batch
        torch.rand(5)
    assert found[0] == found[1]
    assert len(set(found[0])) > len(PROMPTS)


def test_the_student_answers_and_is_not_asked_again(learned: Any) -> None:
    one = work(learned)
    said = one.answers("student", numbered(PROMPTS, samples=2), critic=number)
    assert [each.prompt_id for each in said] == [p.prompt_id for p in PROMPTS for _ in range(2)]
    assert {each.score for each in said} <= {0.0, 1.0}
    lines = (one.folder / "student.jsonl").read_text().splitlines()
    assert lines == [each.to_json() for each in said]

    def fails(trace: Trace) -> bool:
        raise AssertionError("asked again")

    assert one.answers("student", numbered(PROMPTS, samples=2), critic=fails) == said
    calls: list[int] = []

    def solver(tasks: Any) -> Any:
        calls.append(len(tasks))
        return solve_sums(tasks)

    for _ in range(2):
        made = one.called("teacher", numbered(PROMPTS), solver, critic=number)
        assert [each.score for each in made] == [1.0] * 6
        assert one.once("prompts", lambda: solver(PROMPTS)) == solve_sums(PROMPTS)
    assert sum(calls) == 12


def test_rounds_and_steps_have_different_seeds(learned: Any) -> None:
    seeds = [work(learned, number=n).seed(step) for n in (1, 2) for step in ("a", "b")]
    assert len(set(seeds)) == 4
    assert work(learned, number=1).seed("a") == seeds[0]
