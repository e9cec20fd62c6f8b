"""The pool grows by whole rounds, and goes back to the state of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.callbacks.round_recipes.pool import Pool, from_json
from kdlight.data.traces import Trace

ROUNDS = [[Trace(f"{n} {i}", "x\u2028y", score=1.0) for i in range(2)] for n in range(3)]


def test_it_reads_what_was_added(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "new" / "folder")
    assert pool.read() == []
    for traces in ROUNDS:
        pool.add(traces)
    assert pool.read() == [trace for traces in ROUNDS for trace in traces]
    assert pool.state()["traces"] == 6


def test_it_goes_back_to_a_state(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    empty = pool.state()
    pool.add(ROUNDS[0])
    state, content = pool.state(), pool.path.read_bytes()
    pool.add(ROUNDS[1])
    pool.restore(state)
    assert pool.path.read_bytes() == content
    pool.restore(state)
    assert pool.path.read_bytes() == content
    pool.restore(empty)
    assert pool.read() == []


def test_another_pool_begins_with_the_traces_of_a_state(tmp_path: Path) -> None:
    pool, other = Pool(tmp_path / "a"), Pool(tmp_path / "b")
    pool.add(ROUNDS[0])
    state = pool.state()
    pool.add(ROUNDS[1])
    other.begin_like(pool, state)
    assert other.read() == ROUNDS[0]
    assert pool.read() == ROUNDS[0] + ROUNDS[1]
    with pytest.raises(ValueError, match="must begin with the 2 traces"):
        other.begin_like(Pool(tmp_path / "none"), state)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(lambda path: path.unlink(), "is missing", id="missing"),
        pytest.param(lambda path: path.write_text("{}\n" * 9), "has others", id="others"),
    ],
)
def test_the_pool_of_another_run_is_refused(tmp_path: Path, change, match: str) -> None:
    pool = Pool(tmp_path)
    pool.add(ROUNDS[0])
    state = pool.state()
    change(pool.path)
    with pytest.raises(ValueError, match=match):
        pool.restore(state)


def test_a_trace_is_read_as_it_was_written() -> None:
    trace = Trace([{"role": "user", "content": "a"}], "b", answer=3, meta={"c": [1]}, finished=True)
    assert from_json(trace.to_json()) == trace
