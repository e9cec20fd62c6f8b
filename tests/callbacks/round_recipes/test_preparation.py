"""The prompts of a round, and which of its traces are new."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.callbacks.round_recipes.origins import content, with_origin
from kdlight.callbacks.round_recipes.preparation import all_prompts, new_traces, prepare_work
from kdlight.data.traces import Trace
from kdlight.data.traces.encode import Limits
from kdlight.models import Sampling
from tests.support.round_work import learned, work

__all__ = ["learned"]  # the fixture


def prepare(run: Any, **options: Any) -> Any:
    return prepare_work(
        run.trainer,
        run.module,
        **{
            "folder": run.folder,
            "number": 1,
            "pool": [],
            "prompts": all_prompts(run.data.traces.training),
            "max_prompts": None,
            "sampling": Sampling(max_new_tokens=4),
            "batch_size": 8,
            "settings": {},
            **options,
        },
    )


def test_prompts_are_drawn_anew_in_each_round(learned: Any) -> None:
    every = prepare(learned).prompts
    assert len(every) == len(learned.data.traces.training)
    assert all(prompt.response == "" for prompt in every)
    first, again, second = (
        [prompt.prompt for prompt in prepare(learned, number=n, max_prompts=9).prompts]
        for n in (1, 1, 2)
    )
    assert len(first) == 9
    assert first == again != second


def test_the_pool_is_taken_as_well(learned: Any) -> None:
    added = Trace("new", "1")
    assert content(added) not in prepare(learned).taken
    assert content(added) in prepare(learned, pool=[added]).taken


def test_other_weights_begin_the_round_anew(learned: Any) -> None:
    made = prepare(learned).folder / "student.jsonl"
    made.write_text("made")
    assert prepare(learned).folder == made.parent
    assert made.exists()
    next(learned.module.student.parameters()).data.add_(1.0)
    prepare(learned)
    assert not made.exists()


def test_only_what_can_be_trained_on_is_new(learned: Any) -> None:
    new = with_origin(Trace("new", "1"), 1, "teacher")
    long = with_origin(Trace("long", "1" * 300), 1, "teacher")
    known, validated = learned.data.traces.training[0], learned.data.traces.validation[0]
    other = Trace(validated.prompt, "another answer")
    made = [new, new, known, validated, other, long]
    assert new_traces(made, work(learned), learned.data) == [new]
    with pytest.raises(ValueError, match="with their origin, but one to prompt .* has none"):
        new_traces([Trace("bare", "1")], work(learned), learned.data)


def test_what_the_data_module_would_leave_out_is_not_new(
    learned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [with_origin(Trace("n", "1" * size), 1, "student") for size in (1, 9)]
    assert new_traces(made, work(learned), learned.data) == made
    monkeypatch.setattr(learned.data, "limits", Limits(completion=4))
    assert new_traces(made, work(learned), learned.data) == made[:1]


def test_new_prompts_that_cannot_be_answered_are_not_asked(learned: Any) -> None:
    prompts = [Trace("1 + 1 =", ""), Trace("1" * 255, ""), Trace("", "")]
    assert prepare(learned, prompts=prompts).prompts == prompts[:1]
