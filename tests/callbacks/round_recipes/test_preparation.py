"""The prompts of a round, and which of its traces are new."""

from __future__ import annotations

from typing import Any

from kdlight.callbacks.round_recipes.origins import content
from kdlight.callbacks.round_recipes.preparation import all_prompts, new_traces, prepare_work
from kdlight.data.traces import Trace
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
    new, long = Trace("new", "1"), Trace("long", "1" * 300)
    known, validated = learned.data.traces.training[0], learned.data.traces.validation[0]
    other = Trace(validated.prompt, "another answer")
    made = [new, new, known, validated, other, long]
    assert new_traces(made, work(learned), learned.data) == [new]
