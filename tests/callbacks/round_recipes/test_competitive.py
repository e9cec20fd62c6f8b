"""New prompts are made of hard ones only, and the teacher answers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kdlight import CausalLM
from kdlight.callbacks import CompetitiveRound
from kdlight.callbacks.round_recipes.origins import prompt_content
from kdlight.callbacks.round_recipes.pool import from_json
from kdlight.data.traces import Trace, number
from kdlight.data.traces.sums import SimilarSums, sample_sums, solve_sums
from kdlight.teachers import FrozenTeacher
from tests.support import tiny_lm
from tests.support.round_work import count, learned, work

__all__ = ["learned"]  # the fixture


class Augments(SimilarSums):
    """Remembers which prompts it was given."""

    def __init__(self, per_prompt: int = 1) -> None:
        super().__init__(per_prompt)
        self.given: list[Trace] = []

    def __call__(self, prompts: Sequence[Trace], seed: int) -> list[Trace]:
        self.given += prompts
        return super().__call__(prompts, seed)


def short_answer(prompts: list[Trace]) -> list[str]:
    """An answer that is right, and never equal to that of the solver."""
    return [f"={trace.answer}" for trace in prompts]


def saved_scores(one: Any, step: str) -> dict[str, float]:
    lines = (one.folder / f"{step}.jsonl").read_text().splitlines()
    return {trace.prompt_id: trace.score or 0.0 for trace in map(from_json, lines)}


def test_only_prompts_with_a_gap_are_augmented(learned: Any) -> None:
    one, augment = work(learned), Augments()
    made = CompetitiveRound(solve_sums, "number", augment, hard_share=1.0).run(one)
    student, teacher = saved_scores(one, "student"), saved_scores(one, "teacher")
    hard = [p for p in one.prompts if teacher[p.prompt_id] - student[p.prompt_id] >= 1.0]
    assert 0 < len(hard) < len(one.prompts)
    assert augment.given == hard
    assert one.figures["hard"] == len(hard) / len(one.prompts)
    assert made
    assert count(made) == len(made) <= len(hard)
    assert not {prompt_content(trace) for trace in made} & one.taken_prompts
    assert all(number(trace) for trace in made)
    assert {trace.meta["origin"]["author"] for trace in made} == {"teacher"}


@pytest.mark.parametrize(("threshold", "share"), [(0.5, 1.0), (1.0, 1.0), (1.5, 0.0)])
def test_the_threshold_is_included(learned: Any, threshold: float, share: float) -> None:
    """The student always gets 0 here, and the teacher 1."""
    augment = Augments()

    def judge(trace: Trace) -> float:
        return float(trace.response.startswith("="))

    recipe = CompetitiveRound(short_answer, judge, augment, threshold=threshold)
    one = work(learned)
    recipe.run(one)
    assert one.figures["hard"] == share
    assert len(augment.given) == share * len(one.prompts)
    assert (one.figures["gap"], recipe.threshold) == (1.0, threshold)


@pytest.mark.parametrize("hard_share", [0.5, 0.75, 1.0])
def test_the_share_of_new_prompts_is_as_asked_for(learned: Any, hard_share: float) -> None:
    def judge(trace: Trace) -> float:  # half of the prompts are hard
        return float(trace.response.startswith("=") and int(str(trace.answer)) % 2)

    one = work(learned)
    made = CompetitiveRound(short_answer, judge, Augments(), 1.0, hard_share, min_score=0.0).run(
        one
    )
    new = [trace for trace in made if prompt_content(trace) not in one.taken_prompts]
    assert new
    easy = len(made) - len(new)
    assert easy == min(round(len(new) * (1 - hard_share) / hard_share), easy_prompts(one))


def easy_prompts(one: Any) -> int:
    return sum(int(str(prompt.answer)) % 2 == 0 for prompt in one.prompts)


def test_without_a_hard_prompt_nothing_is_made(learned: Any) -> None:
    augment = Augments()
    one = work(learned)
    made = CompetitiveRound(lambda prompts: ["wrong"] * len(prompts), "number", augment).run(one)
    assert made == []
    assert augment.given == []
    assert one.outcome.startswith(f"0 of {len(one.prompts)} prompts have a gap of at least 1.0")


def test_new_prompts_without_room_for_an_answer_are_left_out(learned: Any) -> None:
    one = work(learned)
    made = CompetitiveRound(
        solve_sums,
        "number",
        lambda prompts, seed: [prompts.pop(), Trace("", "", answer="2"), Trace("1" * 255, "")],
    ).run(one)
    assert made == []
    assert one.figures["hard"] > 0


def test_answers_that_are_wrong_are_not_added(learned: Any) -> None:
    seen = {str(prompt.prompt) for prompt in learned.data.prompts}

    def knows(prompts: list[Trace]) -> list[str]:  # the old prompts only
        return [str(p.answer) if p.prompt in seen else "0" for p in prompts]

    made = CompetitiveRound(knows, "number", Augments(2), hard_share=1.0).run(work(learned))
    assert all(trace.answer == "0" for trace in made)


def test_the_live_teacher_answers(learned: Any) -> None:
    learned.module.teacher = FrozenTeacher(CausalLM.wrap(tiny_lm.model(dim=32, seed=3)))
    one = work(learned)
    made = CompetitiveRound(None, lambda trace: 1.0, Augments()).run(one)
    assert made == []  # no gap where all answers are equally good
    assert saved_scores(one, "teacher").keys() == {prompt.prompt_id for prompt in one.prompts}


@pytest.mark.parametrize(
    ("augment", "error", "match"),
    [
        pytest.param(lambda p, s: ["3+4="], TypeError, "list of Trace, got str", id="texts"),
        pytest.param(
            lambda p, s: None, TypeError, "returns a list of Trace, got None", id="nothing"
        ),
    ],
)
def test_what_augment_returns_is_checked(
    learned: Any, augment: Any, error: Any, match: str
) -> None:
    with pytest.raises(error, match=match):
        CompetitiveRound(solve_sums, "number", augment).run(work(learned))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"threshold": 0.0}, ValueError, "threshold must be above 0, got 0.0"),
        ({"threshold": -1}, ValueError, "threshold must be above 0, got -1"),
        ({"threshold": float("inf")}, ValueError, "threshold"),
        ({"hard_share": 0}, ValueError, "hard_share must be above 0, got 0"),
        ({"hard_share": 1.5}, ValueError, "hard_share must be in"),
        ({"min_score": "x"}, TypeError, "min_score"),
        ({"answer": 3}, TypeError, "answer must be a function, its name, or None, got 3"),
        ({"assess": "no such"}, ValueError, "no verifier 'no such'"),
        ({"augment": "no such"}, ValueError, "no function 'no such'"),
        ({"augment": None}, TypeError, "augment must be a function, or its name, got None"),
    ],
    ids=lambda value: "-".join(map(str, *value.items())) if isinstance(value, dict) else None,
)
def test_arguments_are_checked(options: Any, error: Any, match: str) -> None:
    given = {"answer": solve_sums, "assess": "number", "augment": SimilarSums(), **options}
    with pytest.raises(error, match=match):
        CompetitiveRound(**given)


def test_functions_can_be_given_by_name() -> None:
    recipe = CompetitiveRound(
        "kdlight.data.traces.sums:solve_sums", "number", "kdlight.data.traces.sums:sample_sums"
    )
    assert recipe.answer is solve_sums
    assert recipe.augment is sample_sums
