"""Whole training steps are measured alike, in blocks, and divided into stages."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from tests.benchmarks import bench_step, profile_step, step_codes, step_parts
from tests.benchmarks.step_stages import STAGES
from tests.support.config_runs import tiny as tiny

TINY_STEPS = ["--size", "tiny", "--batch", "1", "--length", "8", "--threads", "1"]
TINY_STEPS += ["--warmup", "1", "--steps", "1", "--rounds", "2"]


@pytest.mark.slow
def test_whole_steps_are_measured_in_blocks() -> None:
    options = bench_step.parse([*TINY_STEPS, "--only", "kdlight"])
    found = bench_step.measure(options)
    assert len(found["kdlight"]["seconds"]) == 2
    assert found["kdlight"]["mib"] > 100
    table = bench_step.table(found, options)
    assert re.search(r"\| kdlight \| \d+ \| 1.00 \| \d+ \|", table)


def test_a_code_that_ends_early_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    options = bench_step.parse([*TINY_STEPS, "--only", "kdlight", "trl"])
    table = bench_step.table(bench_step.measure(options), options)
    assert table.splitlines()[2:] == [
        "| kdlight | failed: exit code 1 | | |",
        "| trl | failed: exit code 1 | | |",
    ]


class Enough(Exception):
    """The second step is done."""


class TwoSteps(step_parts.Turns):
    def __init__(self) -> None:
        self.done = 0

    def step_done(self) -> None:
        self.done += 1
        if self.done == 2:
            raise Enough


@pytest.mark.filterwarnings("ignore")
def test_a_step_by_hand_teaches_the_same_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    students: list[Any] = []
    pair = step_parts.pair

    def remembered(size: str) -> tuple[Any, Any]:
        networks = pair(size)
        students.append(networks[1])
        return networks

    monkeypatch.setattr(step_codes, "pair", remembered)
    options = bench_step.parse(TINY_STEPS)
    text = step_parts.Text(512, options.length)
    for each in ("kdlight", "plain"):
        with pytest.raises(Enough):
            step_codes.CODES[each](text, TwoSteps(), options)
    for one, other in zip(*(each.parameters() for each in students), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_profile_of_a_step_divides_it(
    tiny: dict[str, str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["profile_step"])
    profile_step.main(
        [
            *("--threads", "1", "--steps", "2"),
            f"--model.init_args.teacher.init_args.source={tiny['source']}",
            f"--data.init_args.files={tiny['text']}",
            "--data.init_args.block_size=40",
        ]
    )
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([\d.]+) \| [\d.]* \| [-+\d%]* \| ", printed, re.M))
    assert set(rows) == {*STAGES, "rest", "whole"}
    parts = sum(float(value) for stage, value in rows.items() if stage != "whole")
    assert parts == pytest.approx(float(rows["whole"]), abs=1)
    assert "mm " in printed
