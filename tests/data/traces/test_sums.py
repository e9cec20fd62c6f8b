"""Sums are different, right, and made anew from their seed."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace, number
from kdlight.data.traces.sums import SimilarSums, sample_sums, solve_sums

SIZES = {"min_terms": 2, "max_terms": 5, "max_digits": 2}


def test_the_answers_and_all_solutions_are_right() -> None:
    prompts = sample_sums(200, seed=1, **SIZES)
    assert len({str(prompt.prompt) for prompt in prompts}) == 200
    assert len({prompt.prompt_id for prompt in prompts}) == 200
    for prompt, solved in zip(prompts, solve_sums(prompts), strict=True):
        assert isinstance(prompt.prompt, str)
        assert prompt.response == ""
        terms = prompt.prompt.rstrip("=").replace("-", "+-").split("+")
        assert 2 <= len(terms) <= 5
        assert str(sum(map(int, terms))) == prompt.answer
        assert number(solved)
        assert len(solved.response.split("\n")) == len(terms) - 1


def test_they_depend_on_the_seed_alone() -> None:
    assert sample_sums(20, seed=3) == sample_sums(20, seed=3)
    assert sample_sums(20, seed=3) != sample_sums(20, seed=4)


def test_fewer_are_returned_if_there_are_no_more() -> None:
    assert len(sample_sums(1000, seed=0, min_terms=1, max_terms=1)) == 10


def test_similar_sums_have_as_many_terms_and_some_of_them() -> None:
    prompts = sample_sums(100, seed=2, **SIZES)
    made = SimilarSums(per_prompt=3)(prompts, seed=7)
    assert made == SimilarSums(per_prompt=3)(prompts, seed=7)
    assert made != SimilarSums(per_prompt=3)(prompts, seed=8)
    assert len(made) == 300
    kept = 0
    for i, similar in enumerate(made):
        old, new = (split(each) for each in (prompts[i // 3], similar))
        assert len(new) == len(old)
        kept += sum(a == b for a, b in zip(old, new, strict=True)) / len(old)
    assert 0.45 < kept / len(made) < 0.65
    assert all(number(each) for each in solve_sums(made))


def split(prompt: Trace) -> list[str]:
    assert isinstance(prompt.prompt, str)
    return prompt.prompt.rstrip("=").replace("-", "+-").split("+")


@pytest.mark.parametrize("text", ["3 + 4 =", "3*4=", "", "3+4", "+3=", "a+b="])
def test_what_is_no_sum_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a prompt must be a sum such as '3-4"):
        solve_sums([Trace(text, "")])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"size": 0}, ValueError, "size must be at least 1, got 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"min_terms": 0}, ValueError, "min_terms must be at least 1"),
        ({"min_terms": 5}, ValueError, "max_terms must be at least 5, got 4"),
        ({"max_digits": 0}, ValueError, "max_digits must be at least 1"),
    ],
    ids=["size", "seed", "min_terms", "max_terms", "max_digits"],
)
def test_arguments_are_checked(options: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        sample_sums(**{"size": 5, "seed": 0, **options})
    with pytest.raises(ValueError, match="per_prompt must be at least 1, got 0"):
        SimilarSums(per_prompt=0)
