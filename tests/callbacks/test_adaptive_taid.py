"""AdaptiveTAID in real runs: it updates t once per optimizer step, and only in training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from kdlight.callbacks import AdaptiveTAID
from kdlight.objectives import TAID, CrossEntropy, ForwardKL, Objective, Weighted
from kdlight.schedules import TAIDState, taid_step
from tests.support import runs

FAST: dict[str, Any] = {"t_start": 0.2, "alpha": 0.3, "beta": 0.5}


def current(objective: Objective) -> float:
    (taid,) = (each for each in objective.modules() if isinstance(each, TAID))
    return taid.t


def fit(
    folder: Path,
    objective: Objective | None = None,
    *,
    hyper_parameters: dict[str, Any] = FAST,
    data: DataLoader | None = None,
    validation: DataLoader | None = None,
    save: bool = False,
    resume: bool = False,
    **options: Any,
) -> tuple[runs.Watch, AdaptiveTAID]:
    watch, schedule = runs.Watch(current), AdaptiveTAID(**hyper_parameters)
    saving = [runs.saving(folder)] if save or resume else []
    runs.trainer(folder, watch, schedule, *saving, **options).fit(
        runs.module(TAID() if objective is None else objective),
        runs.loader() if data is None else data,
        validation,
        ckpt_path=folder / "epoch=0.ckpt" if resume else None,
        weights_only=False if resume else None,
    )
    return watch, schedule


def expected(
    watch: runs.Watch, losses: list[float], hyper_parameters: dict[str, Any] = FAST
) -> list[float]:
    """Values of t by hand, from the losses of the steps."""
    state, ts = TAIDState(t=hyper_parameters["t_start"]), []
    for step, loss in enumerate(losses):
        ts.append(state.t)
        state = taid_step(state, loss, step / len(losses), **hyper_parameters)
    return ts


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 16), (2, 8), (3, 6)])
def test_t_is_updated_once_per_optimizer_step(tmp_path: Path, accumulate: int, steps: int) -> None:
    watch, schedule = fit(tmp_path, accumulate_grad_batches=accumulate)
    assert len(watch.steps) == steps
    assert watch.used == expected(watch, [step.loss for step in watch.steps])
    assert len(set(watch.batches)) == steps - 1  # the first loss only initializes the state
    assert schedule.state.t > watch.used[-1]


def test_the_signal_is_the_loss_of_the_whole_step(tmp_path: Path) -> None:
    # the same data in micro-batches of 2 and accumulated, and in batches of 4: one trajectory
    data = DataLoader(runs.loader().dataset, 2 * runs.BATCH)
    batches, _ = fit(tmp_path, data=data)
    micro_batches, _ = fit(tmp_path, accumulate_grad_batches=2)
    assert micro_batches.used == pytest.approx(batches.used, rel=1e-6)


def test_validation_and_the_sanity_check_do_not_change_t(tmp_path: Path) -> None:
    without, _ = fit(tmp_path)
    validated, _ = fit(
        tmp_path, validation=runs.loader(), num_sanity_val_steps=2, val_check_interval=3
    )
    assert validated.used == without.used
    assert len(validated.evaluated) == 2 + 4 * runs.BATCHES
    assert validated.evaluated[0] == FAST["t_start"]
    for start in range(2, len(validated.evaluated), runs.BATCHES):
        assert len(set(validated.evaluated[start : start + runs.BATCHES])) == 1


def test_a_step_without_valid_positions_does_not_change_t(tmp_path: Path) -> None:
    watch, _ = fit(tmp_path, data=runs.loader(ignored=range(3, 5)), max_epochs=1)
    assert [step.count for step in watch.steps] == [2, 2, 2, 0, 0, 2, 2, 2]
    assert watch.used[3] == watch.used[4] == watch.used[5] > watch.used[2]
    state, ts = TAIDState(t=0.2), []
    for step, result in enumerate(watch.steps):
        ts.append(state.t)
        if result.count:
            state = taid_step(state, result.loss, step / 8, **FAST)
    assert watch.used == ts


def test_the_signal_in_a_mixture_is_the_term_of_taid(tmp_path: Path) -> None:
    inner = Weighted({"taid": TAID(), "kd": ForwardKL()}, {"taid": 0.3})
    watch, _ = fit(tmp_path, Weighted({"inner": inner, "ce": CrossEntropy()}, {"inner": 5.0}))
    losses = [step.parts["inner/taid"] for step in watch.steps]
    assert watch.used == expected(watch, losses)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_signal_may_be_the_cross_entropy_as_in_the_authors_code(
    tmp_path: Path, mixed: bool
) -> None:
    objective = Weighted({"taid": TAID(), "ce": CrossEntropy()}) if mixed else TAID()
    watch, _ = fit(tmp_path, objective, hyper_parameters=FAST | {"signal": "cross_entropy"})
    name = "taid/cross_entropy" if mixed else "cross_entropy"
    losses = [step.parts[name] for step in watch.steps]
    assert watch.used == expected(watch, losses)
    assert watch.used != expected(watch, [step.loss for step in watch.steps])


def test_without_adaptation_t_is_linear(tmp_path: Path) -> None:
    watch, schedule = fit(
        tmp_path, hyper_parameters={"t_start": 0.2, "t_end": 0.9, "adaptive": False}
    )
    # two steps are made at t_start: the first loss only initializes the state, and t is updated
    # after step 1
    line = [0.2 + 0.7 * max(step - 1, 0) / 16 for step in range(16)]
    assert watch.used == pytest.approx(line)
    assert schedule.state.t == pytest.approx(0.2 + 0.7 * 15 / 16)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    uninterrupted, schedule = fit(tmp_path, save=True, accumulate_grad_batches=2)
    resumed, restored = fit(tmp_path, resume=True, accumulate_grad_batches=2)
    assert resumed.used == uninterrupted.used[4:]
    assert [step.loss for step in resumed.steps] == [step.loss for step in uninterrupted.steps[4:]]
    assert restored.state == schedule.state


def test_the_checkpoint_holds_state_and_hyper_parameters(
    tmp_path: Path, messages: list[str]
) -> None:
    fit(tmp_path, save=True)
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=False)["callbacks"]["AdaptiveTAID"]
    assert set(saved["state"]) == {"t", "momentum", "previous_loss"}
    assert saved["law"] == {"t_end": 1.0, "adaptive": True, "largest_rise": 10.0, **FAST}
    assert saved["signal"] == "kl"
    watch, _ = fit(tmp_path, hyper_parameters=FAST | {"alpha": 0.1}, resume=True)
    assert watch.used[0] == saved["state"]["t"]
    assert any("this run continues from its t" in message for message in messages)


@pytest.mark.parametrize(
    "options", [{"max_epochs": -1}, {"data": DataLoader(runs.Endless()), "max_epochs": 1}]
)
def test_an_unknown_number_of_steps_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs to know the number of.*set trainer.max_steps"):
        fit(tmp_path, **options)


def test_data_without_a_length_needs_max_steps(tmp_path: Path) -> None:
    watch, _ = fit(tmp_path, data=DataLoader(runs.Endless(), 2), max_steps=6, max_epochs=-1)
    assert watch.used == expected(watch, [step.loss for step in watch.steps])


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What Lightning logs; its logger does not propagate to the root, which pytest captures."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lightning.pytorch")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@pytest.mark.parametrize(("alpha", "logged"), [(0.01, True), (0.5, False), (0.0, True)])
def test_it_is_logged_if_adaptation_has_no_effect(
    tmp_path: Path, messages: list[str], alpha: float, logged: bool
) -> None:
    fit(tmp_path, hyper_parameters={"alpha": alpha}, max_epochs=1)
    assert any("so t follows the linear lower bound" in message for message in messages) is logged


def test_it_has_no_effect_with_another_objective(tmp_path: Path) -> None:
    watch = runs.Watch(lambda objective: objective.temperature)
    with pytest.warns(UserWarning, match="AdaptiveTAID has no effect"):
        runs.trainer(tmp_path, watch, AdaptiveTAID(), max_epochs=1).fit(
            runs.module(ForwardKL()), runs.loader()
        )
    assert len(watch.steps) == runs.BATCHES


def test_several_taids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="schedules the t of one TAID objective, but Weighted holds 2"
    ):
        fit(tmp_path, Weighted({"one": TAID(), "two": TAID()}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t_start": 1.0}, "t_start must be in"),
        ({"t_start": 0.5, "t_end": 0.4}, "t_end must be in"),
        ({"signal": "loss"}, "signal must be 'kl' or 'cross_entropy', got 'loss'"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveTAID(**options)


def test_a_step_that_mixed_precision_skips_moves_nothing(tmp_path: Path) -> None:
    watch, schedule = runs.Watch(current), AdaptiveTAID(**FAST)
    runs.trainer(
        tmp_path, watch, schedule, runs.Overflow(0, 3, 4), plugins=[runs.mixed_precision()]
    ).fit(runs.module(TAID()), runs.loader())
    skipped = [step.skipped for step in watch.steps]
    assert [place for place, each in enumerate(skipped) if each] == [0, 3, 4]
    assert watch.used[0] == watch.used[1] == watch.used[2]  # the second step is the first
    assert watch.used[3] == watch.used[4] == watch.used[5] > watch.used[2]
    state, ts, done = TAIDState(t=0.2), [], 0
    for step in watch.steps:
        ts.append(state.t)
        if not step.skipped:
            state, done = taid_step(state, step.loss, done / 16, **FAST), done + 1
    assert watch.used == ts
    assert schedule.state_dict()["skipped"] == 3


def test_a_rise_beyond_the_limit_is_logged(tmp_path: Path) -> None:
    rises: list[float] = []

    class Recording(runs.Watch):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            super().on_train_batch_end(trainer, *args)
            rises.append(trainer.callback_metrics["train/t_rise_limited"].item())

    watch, schedule = Recording(current), AdaptiveTAID(**FAST, largest_rise=0.05)
    runs.trainer(tmp_path, schedule, watch).fit(runs.module(TAID()), runs.loader())
    losses = [step.loss for step in watch.steps]
    expected = [0.0] + [
        float(after > 1.05 * before) for before, after in zip(losses, losses[1:], strict=False)
    ]
    assert rises == expected
    assert 0 < sum(rises) < len(rises)
    assert watch.used == expected_values(losses)


def expected_values(losses: list[float]) -> list[float]:
    state, ts = TAIDState(t=0.2), []
    for step, loss in enumerate(losses):
        ts.append(state.t)
        state = taid_step(state, loss, step / len(losses), **FAST, largest_rise=0.05)
    return ts
