"""HyperparameterScheduler in real runs: it sets a value once per optimizer step or epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.data import DataLoader

from kdlight.callbacks import AdaptiveTAID, HyperparameterScheduler
from kdlight.objectives import (
    TAID,
    CrossEntropy,
    ForwardKL,
    JensenShannon,
    LearnableTemperature,
    Objective,
    Weighted,
)
from kdlight.objectives.hyperparameters import scalar_hyperparameters
from kdlight.schedules import (
    Constant,
    Cosine,
    Exponential,
    Join,
    Linear,
    Piecewise,
    Schedule,
    Warmup,
)
from tests.support import runs


def mixture() -> Weighted:
    inner = Weighted({"jsd": JensenShannon(), "kd": ForwardKL(temperature=3.0)}, {"kd": 0.25})
    return Weighted({"inner": inner, "ce": CrossEntropy(), "taid": TAID()}, {"ce": 0.5})


def fit(
    folder: Path,
    schedulers: list[HyperparameterScheduler],
    objective: Objective,
    *,
    others: list[Callback] | None = None,
    data: DataLoader | None = None,
    validation: DataLoader | None = None,
    save: bool = False,
    resume: bool = False,
    **options: Any,
) -> runs.Watch:
    """Fit; the watch records the values of all targets as each step uses them."""
    watch = runs.Watch(
        lambda objective: tuple(
            scalar_hyperparameters(objective)[scheduler.target].get() for scheduler in schedulers
        )
    )
    saving = [runs.saving(folder)] if save or resume else []
    runs.trainer(folder, watch, *schedulers, *(others or []), *saving, **options).fit(
        runs.module(objective),
        runs.loader() if data is None else data,
        validation,
        ckpt_path=folder / "epoch=0.ckpt" if resume else None,
        weights_only=False if resume else None,
    )
    return watch


def values_of(schedule: Schedule, steps: int, total: float) -> list[tuple[float]]:
    return [(schedule(step, total),) for step in range(steps)]


SCHEDULES = [
    Linear(4.0, 1.0),
    Linear(4.0, 1.0, steps=3),
    Cosine(1.0, 8.0),
    Exponential(8.0, 1.0),
    Piecewise([4.0, 2.0, 1.0], [2, 5]),
    Join([Constant(4.0), Linear(4.0, 1.0)], [3]),
    Warmup(Cosine(4.0, 1.0), steps=3, start=1.0),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_a_value_follows_every_schedule(tmp_path: Path, schedule: Schedule) -> None:
    watch = fit(
        tmp_path, [HyperparameterScheduler("temperature", schedule)], ForwardKL(), max_epochs=1
    )
    assert watch.used == values_of(schedule, 8, 8)
    assert len(set(watch.used)) > 1


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 16), (2, 8), (3, 6)])
def test_the_value_is_set_once_per_optimizer_step(
    tmp_path: Path, accumulate: int, steps: int
) -> None:
    schedule, objective = Linear(4.0, 1.0), ForwardKL()
    watch = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", schedule)],
        objective,
        accumulate_grad_batches=accumulate,
    )
    assert watch.used == values_of(schedule, steps, steps)
    assert len(set(watch.batches)) == steps
    assert objective.temperature == 1.0


def test_the_value_is_set_once_per_epoch(tmp_path: Path) -> None:
    schedule = Linear(4.0, 1.0)
    scheduler = HyperparameterScheduler("temperature", schedule, interval="epoch")
    watch = fit(tmp_path, [scheduler], ForwardKL(), max_epochs=3)
    assert watch.used == [(schedule(epoch, 3),) for epoch in range(3) for _ in range(8)]


def test_validation_and_the_sanity_check_do_not_change_it(tmp_path: Path) -> None:
    schedule = Linear(4.0, 1.0)
    watch = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", schedule)],
        ForwardKL(temperature=9.0),
        validation=runs.loader(),
        num_sanity_val_steps=2,
        val_check_interval=4,
        max_epochs=1,
    )
    assert watch.used == values_of(schedule, 8, 8)
    assert watch.evaluated[:2] == [(4.0,)] * 2  # the schedule holds from the start, not the 9
    assert set(watch.evaluated[2:10]) <= {(schedule(3, 8),), (schedule(4, 8),)}
    assert len(set(watch.evaluated[2:10])) == 1


def test_several_values_are_scheduled_at_any_path(tmp_path: Path) -> None:
    schedules = {
        "weights.ce": Linear(1.0, 0.0),
        "terms.taid.t": Linear(0.0, 1.0),
        "terms.inner.weights.kd": Constant(2.0),
        "terms.inner.terms.kd.temperature": Cosine(4.0, 1.0),
        "terms.inner.terms.jsd.beta": Linear(0.1, 0.9),
    }
    schedulers = [
        HyperparameterScheduler(target, schedule) for target, schedule in schedules.items()
    ]
    watch = fit(tmp_path, schedulers, mixture(), max_epochs=1)
    assert watch.used == [
        tuple(schedule(step, 8) for schedule in schedules.values()) for step in range(8)
    ]
    assert watch.trainer.callback_metrics["train/weights.ce"] == 0.0
    assert watch.trainer.callback_metrics["train/terms.taid.t"] == 1.0


def test_a_scheduled_value_changes_the_loss(tmp_path: Path) -> None:
    constant = fit(tmp_path, [], ForwardKL(), max_epochs=1)
    scheduled = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", Linear(1.0, 4.0))],
        ForwardKL(),
        max_epochs=1,
    )
    same = [
        one.loss == other.loss for one, other in zip(constant.steps, scheduled.steps, strict=True)
    ]
    assert same == [True] + [False] * 7


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, interval: Any) -> None:
    def schedulers() -> list[HyperparameterScheduler]:
        return [
            HyperparameterScheduler("terms.taid.t", Linear(0.1, 0.9), interval),
            HyperparameterScheduler("weights.ce", Cosine(1.0, 0.0), interval),
        ]

    options: dict[str, Any] = {"accumulate_grad_batches": 2, "max_epochs": 3}
    uninterrupted = fit(tmp_path, schedulers(), mixture(), save=True, **options)
    resumed = fit(
        tmp_path,
        schedulers(),
        mixture(),
        resume=True,
        validation=runs.loader(),
        num_sanity_val_steps=1,
        **options,
    )
    assert resumed.used == uninterrupted.used[4:]
    assert [step.loss for step in resumed.steps] == [step.loss for step in uninterrupted.steps[4:]]
    assert resumed.evaluated[0] == uninterrupted.used[4 if interval == "step" else 0]


def test_each_scheduler_has_a_state_of_its_own(tmp_path: Path) -> None:
    fit(
        tmp_path, [HyperparameterScheduler("temperature", Linear(4.0, 1.0))], ForwardKL(), save=True
    )
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=False)["callbacks"]
    state = saved["HyperparameterScheduler{'target': 'temperature'}"]
    schedule = "Linear(start=4.0, end=1.0, steps=None)"
    assert state == {"done": 8, "schedule": schedule, "skipped": 0}


def test_an_unknown_target_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no hyper-parameter 'weights.taid'.*one of: temperature$"
    ):
        fit(tmp_path, [HyperparameterScheduler("weights.taid", Constant(1.0))], ForwardKL())
    with pytest.raises(ValueError, match=r"no hyper-parameter 'beta'.*weights.ce.*terms.taid.t"):
        fit(tmp_path, [HyperparameterScheduler("beta", Constant(1.0))], mixture())
    with pytest.raises(ValueError, match=r"no hyper-parameter 'temperature'.*one of: none"):
        fit(tmp_path, [HyperparameterScheduler("temperature", Constant(1.0))], CrossEntropy())


def test_one_value_has_one_schedule(tmp_path: Path) -> None:
    two = [
        HyperparameterScheduler("temperature", Constant(1.0)),
        HyperparameterScheduler("temperature", Constant(2.0)),
    ]
    with pytest.raises(RuntimeError, match=r"state_key.*must be unique"):
        fit(tmp_path, two, ForwardKL())
    with pytest.raises(
        ValueError, match="HyperparameterScheduler and AdaptiveTAID both schedule 'terms.taid.t'"
    ):
        fit(
            tmp_path,
            [HyperparameterScheduler("terms.taid.t", Constant(1.0))],
            mixture(),
            others=[AdaptiveTAID()],
        )
    another_target = fit(
        tmp_path,
        [HyperparameterScheduler("weights.taid", Linear(0.0, 1.0))],
        mixture(),
        others=[AdaptiveTAID()],
        max_epochs=1,
    )
    assert another_target.used == values_of(Linear(0.0, 1.0), 8, 8)


@pytest.mark.parametrize(
    ("interval", "options"),
    [
        ("step", {"max_epochs": -1}),
        ("step", {"data": DataLoader(runs.Endless(), 2), "max_epochs": 1}),
        ("epoch", {"max_epochs": -1, "max_steps": 5}),
    ],
)
def test_an_unknown_number_of_steps_is_refused_where_it_is_needed(
    tmp_path: Path, interval: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"Linear has steps=None.*unknown \(inf\); set steps of"):
        fit(
            tmp_path,
            [HyperparameterScheduler("temperature", Linear(4.0, 1.0), interval)],
            ForwardKL(),
            **options,
        )


def test_a_law_with_steps_of_its_own_runs_without_end_in_sight(tmp_path: Path) -> None:
    schedule = Linear(4.0, 1.0, steps=3)
    data = DataLoader(runs.Endless(), 2)
    watch = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", schedule)],
        ForwardKL(),
        data=data,
        max_epochs=-1,
        max_steps=5,
    )
    assert watch.used == values_of(schedule, 5, 3)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="interval must be 'step' or 'epoch', got 'batch'"):
        HyperparameterScheduler("temperature", Constant(1.0), interval="batch")  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"schedule must be an instance of Schedule, got a value of type float"
    ):
        HyperparameterScheduler("temperature", 1.0)  # type: ignore[arg-type]


# ---- CTKD: a scheduled strength, and a temperature that the optimizer learns


def test_the_strength_scales_the_updates_of_the_learned_temperature(tmp_path: Path) -> None:
    objective = LearnableTemperature(strength=0.0)
    temperatures = []

    class Temperatures(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            temperatures.append(objective.temperature)

    schedule = Piecewise([0.0, 1.0], [3])
    watch = fit(
        tmp_path,
        [HyperparameterScheduler("strength", schedule)],
        objective,
        others=[Temperatures()],
    )
    start = LearnableTemperature().temperature
    assert temperatures[:3] == [start] * 3
    assert temperatures[3] < start
    assert temperatures == sorted(temperatures, reverse=True)
    assert [step.parts["temperature"] for step in watch.steps[4:]] == pytest.approx(
        temperatures[3:-1]
    )


def test_the_learned_temperature_is_in_the_checkpoint(tmp_path: Path) -> None:
    uninterrupted = fit(tmp_path, [], LearnableTemperature(), save=True)
    resumed = fit(tmp_path, [], LearnableTemperature(), resume=True)
    assert [step.parts for step in resumed.steps] == [
        step.parts for step in uninterrupted.steps[8:]
    ]


def test_a_step_that_mixed_precision_skips_is_not_counted(tmp_path: Path) -> None:
    scheduler = HyperparameterScheduler("temperature", Linear(4.0, 1.0))
    watch = fit(
        tmp_path,
        [scheduler],
        ForwardKL(),
        others=[runs.Overflow(0, 3)],
        plugins=[runs.mixed_precision()],
        max_epochs=1,
    )
    assert [step.skipped for step in watch.steps] == [n in (0, 3) for n in range(8)]
    done = [0, 0, 1, 2, 2, 3, 4, 5]
    assert [value for (value,) in watch.used] == [Linear(4.0, 1.0)(n, 8) for n in done]
    assert scheduler.state_dict()["skipped"] == 2
