"""TAID's schedule against its authors' trajectories, and its properties."""

from __future__ import annotations

import json
from math import exp, inf, isfinite, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from kdlight.schedules import (
    TAIDState,
    check_taid,
    taid_step,
)
from kdlight.schedules.taid import relative_rise

TRAJECTORIES = sorted(
    (Path(__file__).parents[1] / "conformance" / "taid_trajectory").glob("*.safetensors")
)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with safe_open(path, "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["meta"])


def run(
    losses: list[float], steps: list[int], total: float, state: TAIDState, **hyper: Any
) -> list[TAIDState]:
    states = []
    for loss, step in zip(losses, steps, strict=True):
        state = taid_step(state, loss, step / total, **hyper)
        states.append(state)
    return states


def hyper_of(meta: dict[str, Any]) -> dict[str, Any]:
    hyper = dict(meta["hparams"])
    hyper["adaptive"] = not hyper.pop("disable_adaptive")
    hyper.pop("resume", None)
    return hyper


# ---- TAID: conformance


@pytest.mark.parametrize("path", TRAJECTORIES, ids=lambda path: path.stem)
def test_taid_follows_the_authors_trajectory(path: Path) -> None:
    tensors, meta = read(path)
    hyper = hyper_of(meta)
    losses = tensors.get("losses", tensors.get("expected_loss"))
    assert losses is not None
    states = run(
        losses.tolist(),
        tensors["global_steps"].tolist(),
        meta["num_train_steps"],
        TAIDState(t=hyper["t_start"]),
        **hyper,
    )
    expected = zip(
        tensors["expected_t"],
        tensors["expected_momentum"],
        tensors["expected_prev_loss"],
        strict=True,
    )
    for state, (t, momentum, previous) in zip(states, expected, strict=True):
        assert state == pytest.approx((t, momentum, previous), rel=1e-9, abs=1e-12)


def test_all_trajectories_are_there() -> None:
    assert len(TRAJECTORIES) == 7


def test_the_first_resumed_step_is_compared_with_the_last_one_before() -> None:
    # the authors' code loses its state when a run resumes without it (o6): there t waits for two
    # steps and falls back; kdlight's state travels with the checkpoint, so an interrupted run is
    # the whole one
    losses, steps = [3.0 - 0.1 * i for i in range(10)], list(range(10))
    whole = run(losses, steps, 10, TAIDState())
    first = run(losses[:5], steps[:5], 10, TAIDState())
    resumed = run(losses[5:], steps[5:], 10, TAIDState(*first[-1]))
    assert first + resumed == whole
    fresh = run(losses[5:], steps[5:], 10, TAIDState())
    assert fresh[0].t < whole[5].t


def test_a_loss_of_zero_does_not_silence_the_adaptation() -> None:
    # the authors divide by prev + 1e-15: after a loss of 0 the momentum is about -1e13, and the
    # adaptive part dead for thousands of steps
    state = run([1.0, 0.0, 1.0, 0.9], [0, 1, 2, 3], inf, TAIDState(t=0.4), alpha=0.5)[-1]
    assert abs(state.momentum) < 0.2
    assert state.t > 0.7


def test_a_loss_that_jumps_from_nearly_zero_counts_as_a_tenfold_rise() -> None:
    state = run([1e-12, 2.0], [0, 1], inf, TAIDState(t=0.0), t_start=0.0)[-1]
    assert state.momentum == pytest.approx(-0.1)


def test_a_loss_that_rounding_made_negative_does_not_count_as_a_miracle() -> None:
    state = run([-1e-9, 2.0], [0, 1], inf, TAIDState(t=0.0), t_start=0.0)[-1]
    assert state.momentum == pytest.approx(0.01)


@pytest.mark.parametrize("loss", [nan, inf, -inf])
def test_a_loss_that_is_no_number_changes_nothing(loss: float) -> None:
    # the authors' momentum becomes NaN or -inf for ever, and with NaN t falls back to the floor
    state = run([2.0, 1.0], [0, 1], 10, TAIDState(t=0.4), alpha=0.5)[-1]
    assert taid_step(state, loss, 0.5) == state
    assert taid_step(TAIDState(), loss, 0.5) == TAIDState()


def test_the_linear_floor_stops_at_its_end() -> None:
    # the authors' disable_adaptive runs past t_end, and below t_start where the number of steps is
    # given as -1
    for progress, t in ((1.5, 0.9), (-1.0, 0.4)):
        state = TAIDState(t=0.4, previous_loss=1.0)
        assert taid_step(state, 1.0, progress, t_end=0.9, adaptive=False).t == t


# ---- TAID: properties

numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)
hypers = st.fixed_dictionaries(
    {
        "t_start": st.floats(0, 0.99),
        "alpha": st.floats(0, 1),
        "beta": st.floats(0, 0.999),
        "adaptive": st.booleans(),
    }
).flatmap(
    lambda hyper: st.floats(hyper["t_start"], 1, exclude_min=True).map(
        lambda end: {**hyper, "t_end": end}
    )
)


@given(hypers, st.lists(st.tuples(numbers, st.floats(-2, 3)), max_size=30))
def test_t_never_falls_and_stays_between_its_ends(
    hyper: dict[str, Any], run_of: list[tuple[float, float]]
) -> None:
    check_taid(**{key: value for key, value in hyper.items() if key != "adaptive"})
    state = TAIDState(t=hyper["t_start"])
    for loss, progress in run_of:
        after = taid_step(state, loss, progress, **hyper)
        assert hyper["t_start"] <= state.t <= after.t <= hyper["t_end"]
        assert isfinite(after.momentum)
        assert after == state or isfinite(after.previous_loss)
        state = after


@given(hypers, st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
def test_t_is_never_below_the_linear_floor(hyper: dict[str, Any], losses: list[float]) -> None:
    state = TAIDState(t=hyper["t_start"])
    for step, loss in enumerate(losses):
        state = taid_step(state, loss, step / len(losses), **hyper)
        floor = hyper["t_start"] + (hyper["t_end"] - hyper["t_start"]) * step / len(losses)
        if step > 0:  # the first loss is only remembered
            assert state.t >= min(floor, hyper["t_end"]) - 1e-12
        if not hyper["adaptive"] and step > 0:
            assert state.t == pytest.approx(floor)


@given(st.floats(1e-3, 1e3), st.lists(st.floats(0.1, 10), min_size=1, max_size=20))
def test_the_unit_of_the_loss_does_not_matter(scale: float, losses: list[float]) -> None:
    steps = list(range(len(losses)))
    plain = run(losses, steps, 50, TAIDState(), alpha=0.3)
    scaled = run([scale * loss for loss in losses], steps, 50, TAIDState(), alpha=0.3)
    assert [s.t for s in scaled] == pytest.approx([s.t for s in plain])


def test_a_falling_loss_moves_t_faster() -> None:
    falling = run([2.0, 1.0], [0, 1], inf, TAIDState(), alpha=0.5, beta=0.0)[-1].t
    rising = run([1.0, 2.0], [0, 1], inf, TAIDState(), alpha=0.5, beta=0.0)[-1].t
    assert falling == pytest.approx(0.4 + 0.5 / (1 + exp(-0.5)) * 0.6)
    assert rising == pytest.approx(0.4 + 0.5 / (1 + exp(1.0)) * 0.6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t_start": 1.0}, r"t_start must be in \[0, 1\), got 1.0"),
        ({"t_end": 0.4}, r"t_end must be in \(t_start, 1\] = \(0.4, 1\], got 0.4"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"beta": 1.0}, r"beta must be in \[0, 1\), got 1.0"),
        ({"beta": nan}, "beta must be in"),
    ],
)
def test_numbers_out_of_range_for_taid_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_taid(**{"t_start": 0.4, "t_end": 1.0, "alpha": 5e-4, "beta": 0.99, **wrong})


@pytest.mark.parametrize(("limit", "decrease"), [(10.0, -10.0), (inf, -99.0), (0.0, 0.0)])
def test_a_rise_of_the_loss_counts_as_at_most_the_limit(limit: float, decrease: float) -> None:
    state = TAIDState(t=0.4, momentum=0.0, previous_loss=0.01)
    after = taid_step(state, 1.0, 0.0, beta=0.5, largest_rise=limit)
    assert after.momentum == pytest.approx(0.5 * decrease)
    assert relative_rise(state, 1.0) == pytest.approx(99.0)
    assert relative_rise(TAIDState(), 1.0) == 0


def test_the_limit_is_checked() -> None:
    for wrong in (-1.0, nan):
        with pytest.raises(ValueError, match=r"largest_rise must be in \[0, inf\], got"):
            check_taid(t_start=0.4, t_end=1.0, alpha=5e-4, beta=0.99, largest_rise=wrong)
