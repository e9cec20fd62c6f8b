"""Pairs of a short and a long response, which the data module serves to DPO and SimPO."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces import Trace, TracesDataModule, length_pairs, read_traces, write_traces
from tests.data.traces.operators.planted import planted
from tests.support import tiny_lm


def group(name: str, *rows: tuple[str, int, float]) -> list[Trace]:
    """Return traces of a prompt: teacher, length and score of each."""
    return [
        Trace(f"q{name}", "x" * size, prompt_id=name, teacher=teacher or None, score=score)
        for teacher, size, score in rows
    ]


def sizes(traces: list[Trace]) -> list[tuple[str | None, int]]:
    return [(trace.teacher, len(trace.response)) for trace in traces]


def test_the_planted_pairs_are_found() -> None:
    kept = length_pairs(planted())  # all five are correct where i % 6 == 5
    chosen, rejected = kept[::2], kept[1::2]
    assert {int(t.prompt_id) % 6 for t in kept} == {5}
    assert len(chosen) == len(rejected) == sum(i % 6 == 5 for i in range(200))
    assert {(t.response, t.score) for t in chosen} == {("response 0", 1.0)}
    assert {(t.response, t.score, t.meta["score"]) for t in rejected} == {("response 4", 0.0, 1.0)}
    assert [t.prompt_id for t in chosen] == [t.prompt_id for t in rejected]
    assert sum(kept.dropped.values()) == 1000 - len(kept)


@pytest.mark.parametrize("rate", [0.0, 0.4, 0.41, 0.6, 1.0])
def test_the_pass_rate_decides_which_prompts_have_a_pair(rate: float) -> None:
    kept = length_pairs(planted(), min_pass_rate=rate)
    solved = {i for i in range(200) if i % 6 >= 2 and (i % 6) / 5 >= rate}
    assert {int(t.prompt_id) for t in kept} == solved
    assert all(t.meta["score"] == 1.0 for t in kept[1::2])  # a wrong trace is no long right one


def test_a_pair_has_two_lengths() -> None:
    same = group("a", ("", 3, 1), ("", 3, 1))
    single = group("b", ("", 3, 1))
    wrong = group("c", ("", 3, 0), ("", 5, 0))
    kept = length_pairs([*same, *single, *wrong])
    assert kept == []
    assert kept.dropped == {
        "of a prompt with one length": 3,
        "of a prompt with a low pass rate": 2,
    }
    ties = [
        Trace("q", text, score=score, n_tokens=n)
        for text, score, n in (("a", 0.9, 1), ("b", 1.0, 1), ("c", 1.0, 2))
    ]
    assert [t.response for t in length_pairs(ties)] == ["b", "c"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # both solve it: the short one, against the longest of the other
        ([("L", 90, 1), ("L", 80, 1), ("S", 20, 1), ("S", 10, 1)], [("S", 10), ("L", 90)]),
        # only the long one solves it: its shortest, against a wrong one
        ([("L", 90, 1), ("L", 80, 1), ("S", 20, 0), ("S", 10, 0)], [("L", 80), ("S", 20)]),
        # the short one fails once: a wrong response of it is rejected, although it is shorter
        ([("L", 90, 1), ("L", 80, 1), ("S", 20, 1), ("S", 10, 0)], [("L", 80), ("S", 10)]),
        # the long one fails
        ([("L", 90, 0), ("L", 95, 1), ("S", 20, 1)], [("S", 20), ("L", 90)]),
        # neither is always right
        ([("L", 90, 0), ("L", 80, 1), ("S", 20, 0), ("S", 10, 1)], []),
        ([("L", 90, 0), ("S", 20, 0)], []),
        ([("L", 90, 1)], []),
        ([("L", 50, 1), ("S", 50, 1)], []),
    ],
    ids=range(8),
)
def test_the_better_of_two_teachers_is_chosen_or_the_shorter(rows: Any, expected: Any) -> None:
    others = group("other", ("L", 9, 1), ("S", 2, 1))
    kept = length_pairs([*group("q", *rows), *others], level="group")
    assert sizes(kept[2:]) == expected
    assert sizes(kept[:2]) == [("S", 2), ("L", 9)]
    assert [t.score for t in kept] == [1, 0.0] * (len(kept) // 2)
    assert len(kept) + sum(kept.dropped.values()) == len(rows) + 2


def test_margin_and_pass_rate_of_groups() -> None:
    rows = [("L", 90, 1.0)] * 4 + [("S", 10 + i, float(i < 3)) for i in range(4)]
    traces = group("q", *rows)
    options: dict[str, Any] = {"level": "group", "min_pass_rate": 0.75}
    assert sizes(length_pairs(traces, **options))[0] == ("L", 90)
    assert sizes(length_pairs(traces, margin=0.25, **options)) == [("S", 10), ("L", 90)]
    assert length_pairs(traces, level="group", margin=0.25) == []  # 0.75 is below 1
    half = group("q", ("L", 9, 1), ("L", 8, 0), ("S", 2, 0))
    assert length_pairs(half, level="group", min_pass_rate=0.51) == []
    assert sizes(length_pairs(half, level="group", min_pass_rate=0.5)) == [("L", 9), ("S", 2)]


@pytest.mark.parametrize("level", ["instance", "group"])
def test_the_order_of_the_traces_does_not_matter(level: Any) -> None:
    expected = length_pairs(planted(), level=level, min_pass_rate=0.3)
    assert expected
    for seed in range(3):
        shuffled = random.Random(seed).sample(planted(), 1000)
        assert length_pairs(shuffled, level=level, min_pass_rate=0.3) == expected


@pytest.mark.parametrize("level", ["instance", "group"])
def test_the_data_module_serves_the_pairs(level: Any, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    traces = [t for i in range(6) for t in group(str(i), ("L", 20 + i, 1), ("S", 2 + i, 1))]
    write_traces(path, traces)
    data = TracesDataModule(
        lambda: None,
        str(path),
        kind="pairs",
        select=[{"length_pairs": {"level": level}}],
        validation_fraction=0,
        chat=False,
        batch_size=6,
    )
    data.tokenizer = tiny_lm.tokenizer()
    data.setup()
    (batch,) = data.train_dataloader()
    assert batch["rejected"].tolist() == [False, True] * 6
    lengths = (batch["labels"] != -100).sum(-1) - 1  # without the end token
    chosen, rejected = lengths[::2].tolist(), lengths[1::2].tolist()
    assert sorted(chosen) == [2 + i for i in range(6)]
    assert [long - short for short, long in zip(chosen, rejected, strict=True)] == [18] * 6


def test_a_rejected_trace_keeps_its_own_score_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    kept = length_pairs([Trace("q", "x" * n, score=0.95, meta={"n": n}) for n in (1, 2)])
    write_traces(path, kept)
    assert read_traces(str(path)) == kept
    assert kept[1].meta == {"n": 2, "score": 0.95}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "both"}, "level must be one of 'instance', 'group', got 'both'"),
        ({"min_pass_rate": 1.5}, r"min_pass_rate must be in \[0, 1\]"),
        ({"min_pass_rate": float("nan")}, "min_pass_rate must be a finite number"),
        ({"min_pass_rate": "1"}, "min_pass_rate must be a number"),
        ({"margin": -0.1, "level": "group"}, r"margin must be in \[0, 1\]"),
        ({"margin": 0.1}, "margin compares groups"),
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"threshold": "1"}, "threshold must be a number"),
    ],
    ids=range(9),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        length_pairs([], **options)


def test_bad_traces_are_named() -> None:
    for level in ("instance", "group"):
        unscored = [Trace("q", "a", teacher="L"), Trace("q", "b", teacher="S", score=1)]
        with pytest.raises(ValueError, match="has no score; verify"):
            length_pairs(unscored, level=level)  # type: ignore[arg-type]
    one, three = group("q", ("", 1, 1)), group("q", ("a", 1, 1), ("b", 1, 1), ("c", 1, 1))
    for traces, number in ((one, "1: ''"), (three, "3: 'a', 'b', 'c'")):
        with pytest.raises(ValueError, match=f"compares the traces of two teachers.*{number}"):
            length_pairs(traces, level="group")
