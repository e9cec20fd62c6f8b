"""The laws that hold for every operator that a config can name."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from kdlight.data.traces import OPERATORS, Selection, Trace, write_traces
from kdlight.data.traces.operators.compose import Compose
from tests.data.traces.operators.planted import planted

ROOT = Path(__file__).parents[4]
OWN = "tests.data.traces.operators.own_functions"

FOLDER = TemporaryDirectory()
IDS = [trace.prompt_id for trace in planted(of_each=1)] + ["twin"]
write_traces(f"{FOLDER.name}/thoughts.jsonl", [Trace("", "First.", prompt_id=i) for i in IDS])

# Parameters with which the operator keeps some of the planted traces.
PARAMETERS: dict[str, dict[str, Any]] = {
    "adaptive_difficulty": {"total": 30},
    "code_switch": {"translations": str(Path(__file__).with_name("translations.json"))},
    "first_thought_prefix": {"thoughts": f"{FOLDER.name}/thoughts.jsonl"},
    "joint_rank": {"keep": 0.1},
    "keep_trajectories": {"max_turns": 1},
    "length_control": {},
    "length_pairs": {"min_pass_rate": 0.5},
    "pass_rate_band": {},
    "quality_filter": {"max_length": 12, "max_perplexity": {"teacher 0": 3.0}},
    "revise_thoughts": {
        "continue_fn": f"{OWN}:finish",
        "verify": f"{OWN}:is_even",
        "words": ["e 3", "e 4"],
        "split": "s",
    },
    "rewrite": {"fn": f"{OWN}:shorten", "verify": f"{OWN}:is_even"},
    "serialise_steps": {"split": " "},
    "shortest_correct": {},
    "shortest_prefix": {
        "answer": f"{OWN}:finish",
        "verify": f"{OWN}:is_even",
        "split": "s",
    },
    "teacher_mix": {"per_prompt": "one", "weights": {"teacher 0": 3, "teacher 1": 1}},
    "verified_rejection": {"per_prompt": 2},
    "without_thinking": {"opening": "res", "closing": "pon"},
}
# Operators whose result has traces that were not read.
CHANGE = ("code_switch", "first_thought_prefix", "revise_thoughts", "rewrite", "serialise_steps")


def run(name: str, traces: list[Trace]) -> Selection:
    return OPERATORS[name](traces, **PARAMETERS[name])


def test_every_operator_is_tried() -> None:
    assert sorted(PARAMETERS) == sorted(OPERATORS)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_the_order_of_the_traces_does_not_matter(name: str) -> None:
    traces = planted()
    # two traces that differ in what no order is defined by
    traces += [
        Trace(
            "twin",
            "r",
            prompt_id="twin",
            score=1.0,
            n_tokens=9,
            difficulty=2.0,
            teacher="teacher 0",
            perplexity=2.0,
            meta={"n": n},
        )
        for n in range(2)
    ]
    expected = run(name, traces)
    assert len(expected) > 0
    for seed in range(3):
        shuffled = random.Random(seed).sample(traces, len(traces))
        again = run(name, shuffled)
        assert again == expected
        assert again.report() == expected.report()


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_no_traces_give_none_and_no_warning(name: str) -> None:
    empty = run(name, [])
    assert empty == []
    assert not empty.dropped
    assert not empty.missing


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - set(CHANGE)))
def test_every_trace_is_kept_or_counted(name: str) -> None:
    kept = run(name, planted())
    assert len(kept) + sum(kept.dropped.values()) == 1000


@pytest.mark.parametrize("name", sorted(OPERATORS))
@pytest.mark.filterwarnings("ignore:.*found fewer than it was asked for")
def test_a_prompt_with_one_trace_is_handled(name: str) -> None:
    single = planted(1, 1)
    parameters = {k: v for k, v in PARAMETERS[name].items() if not isinstance(v, dict)}
    kept = OPERATORS[name](single, **parameters)
    assert isinstance(kept, Selection)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_the_input_is_not_changed(name: str) -> None:
    traces = planted(12)
    before = list(traces)
    if name == "adaptive_difficulty":
        OPERATORS[name](traces, total=3)
    else:
        run(name, traces)
    assert traces == before


RANKS = """
import json, sys
from tests.data.traces.operators.test_operators import OPERATORS, PARAMETERS, run
from tests.data.traces.operators.planted import planted
print(json.dumps({name: [t.to_json() for t in run(name, planted())] for name in sorted(OPERATORS)}))
"""


def test_every_process_selects_the_same() -> None:
    """Each rank of a run selects on its own; Python's hashes differ between processes."""
    outputs = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", RANKS],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == outputs[1]
    assert all(outputs[0].values())


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_a_config_can_name_it(name: str) -> None:
    parameters = json.loads(json.dumps(PARAMETERS[name]))
    assert Compose([{name: parameters}])(planted()) == run(name, planted())
