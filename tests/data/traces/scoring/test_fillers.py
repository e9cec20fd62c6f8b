"""What fills a field, a part of a file at a time, agrees with what fills it at once."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    count_tokens,
    judge_difficulty,
    pass_rate_difficulty,
    perplexities,
)
from kdlight.data.traces.scoring.fillers import (
    Filler,
    JudgeFiller,
    PassRateFiller,
    PerplexityFiller,
    TokensFiller,
)
from tests.data.traces.scoring.judges import constant_judge
from tests.support import tiny_lm

TRACES = [Trace(f"{i % 3} + 1 =", f"{'so ' * i}{i % 3 + 1}", score=float(i % 2)) for i in range(9)]
ASKS: dict[str, Any] = {"chat": False, "batch_size": 2}


def in_parts(filler: Filler, size: int = 4) -> list[Any]:
    return [
        value
        for start in range(0, len(TRACES), size)
        for value in filler.values(TRACES[start : start + size])
    ]


def test_tokens_and_pass_rates_in_parts() -> None:
    tokenizer = tiny_lm.tokenizer()
    filler = TokensFiller(tokenizer, chat=False)
    assert in_parts(filler) == count_tokens(tokenizer, TRACES, chat=False)
    rates = PassRateFiller(TRACES, threshold=0.9, levels=None)
    assert in_parts(rates) == pass_rate_difficulty(TRACES)
    assert filler.notes == rates.notes == []


def test_perplexities_in_parts() -> None:
    model, tokenizer = tiny_lm.model().eval(), tiny_lm.tokenizer()
    filler = PerplexityFiller(model, tokenizer, **ASKS)
    expected = perplexities(model, tokenizer, TRACES, chat=False)
    assert in_parts(filler) == pytest.approx(expected, rel=1e-6)
    assert filler.why_none(Trace("1", "")) == "empty response"


@pytest.mark.parametrize(
    ("levels", "scores", "count"),
    [(None, [1, 1], 1), (5, [1, 1], 1), (None, [1, 0], 0), (5, [1, 0], 0), (2, [1, 1, 0], 0)],
)
def test_it_is_told_if_incorrect_traces_are_lacking(
    levels: int | None, scores: list[float], count: int
) -> None:
    traces = [Trace(f"{i}", "1", score=score) for i, score in enumerate(scores)]
    filler = PassRateFiller(traces, threshold=0.9, levels=levels)
    assert len(filler.notes) == count
    assert all("all traces are correct" in note for note in filler.notes)


@pytest.mark.parametrize(("numbers", "told"), [((0, 1, 2), False), ((0, 2), True), ((1,), True)])
def test_left_out_traces_are_told_by_their_number(numbers: tuple[int, ...], told: bool) -> None:
    """Such as the unfinished ones, without which a pass rate is too high."""
    traces = [Trace("1", "2", score=0, meta={"generation": number}) for number in numbers]
    traces += [
        Trace("1", "2", score=0, teacher="t", meta={"generation": 0}),
        Trace("2", "3", score=1),
    ]
    notes = PassRateFiller(traces, threshold=0.9, levels=None).notes
    assert [note[:41] for note in notes] == ["of 1 prompts some generated traces are la"] * told


def asking(model: Any, **options: Any) -> JudgeFiller:
    options = {**ASKS, "instruction": "1 or 0?", "levels": None, **options}
    return JudgeFiller(model, tiny_lm.tokenizer(), **options)


def test_a_judge_in_parts_is_asked_once_for_each_prompt() -> None:
    model = constant_judge({"1": 1.0, "0": 0.0})
    filler = asking(model)
    expected = judge_difficulty(
        model, tiny_lm.tokenizer(), TRACES, instruction="1 or 0?", chat=False
    )
    assert in_parts(filler) == expected
    assert filler.judged == 3
    assert filler.notes == []


def test_a_prompt_of_an_earlier_run_is_not_judged_again() -> None:
    filler = asking(constant_judge({"1": 1.0, "0": 0.0}))
    filler.recall(TRACES[:2], [0.25, None])
    assert filler.values(TRACES[:3])[:2] == [0.25, None]
    assert filler.values(TRACES[3:5]) == [0.25, None]  # the same prompts
    assert filler.judged == 1
    assert filler.why_none(TRACES[1]) == "prompt longer than the context of the judge"


def test_prompts_without_an_answer_are_counted() -> None:
    filler = asking(constant_judge({"H": 1.0, "E": 0.0}))
    in_parts(filler)
    (note,) = filler.notes
    assert note.startswith("to 3 of 3 prompts judged in this run, neither 0 nor 1 is among")


@pytest.mark.parametrize("options", [{"levels": 1}, {"instruction": ""}, {"batch_size": 0}])
def test_wrong_options_of_a_judge_are_refused_before_it_is_asked(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        asking(constant_judge({}), **options)


def test_a_filler_has_to_be_written() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Filler()  # type: ignore[abstract]

    class Ones(Filler):
        field = "difficulty"

        def values(self, traces: Any) -> list[float]:
            return [1.0] * len(traces)

    filler = Ones()
    filler.recall([], [])
    assert filler.notes == []
    assert filler.why_none(Trace("q", "r")) == "unknown"
