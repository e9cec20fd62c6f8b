"""HyperparameterScheduler in real runs: it moves a number once per optimizer step or epoch, along its law."""

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
from kdlight.schedules import Constant, Cosine, Exponential, Join, Law, Linear, Piecewise, Warmup
from tests.support import runs


def mixture() -> Weighted:
    inner = Weighted({"jsd": JensenShannon(), "kd": ForwardKL(temperature=3.0)}, {"kd": 0.25})
    return Weighted({"inner": inner, "ce": CrossEntropy(), "taid": TAID()}, {"ce": 0.5})


def fit(
    folder: Path,
    ramps: list[HyperparameterScheduler],
    objective: Objective,
    *,
    others: list[Callback] | None = None,
    data: DataLoader | None = None,
    validation: DataLoader | None = None,
    save: bool = False,
    resume: bool = False,
    **options: Any,
) -> runs.Watch:
    """A run; watched are the values of all targets as each step uses them."""
    watch = runs.Watch(
        lambda objective: tuple(
            scalar_hyperparameters(objective)[ramp.target].get() for ramp in ramps
        )
    )
    saving = [runs.saving(folder)] if save or resume else []
    runs.trainer(folder, watch, *ramps, *(others or []), *saving, **options).fit(
        runs.module(objective),
        runs.loader() if data is None else data,
        validation,
        ckpt_path=folder / "epoch=0.ckpt" if resume else None,
        weights_only=False if resume else None,
    )
    return watch


def along(law: Law, steps: int, total: float) -> list[tuple[float]]:
    return [(law(step, total),) for step in range(steps)]


LAWS = [
    Linear(4.0, 1.0),
    Linear(4.0, 1.0, steps=3),
    Cosine(1.0, 8.0),
    Exponential(8.0, 1.0),
    Piecewise([4.0, 2.0, 1.0], [2, 5]),
    Join([Constant(4.0), Linear(4.0, 1.0)], [3]),
    Warmup(Cosine(4.0, 1.0), steps=3, start=1.0),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_number_follows_every_law(tmp_path: Path, law: Law) -> None:
    watch = fit(tmp_path, [HyperparameterScheduler("temperature", law)], ForwardKL(), max_epochs=1)
    assert watch.used == along(law, 8, 8)
    assert len(set(watch.used)) > 1


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 16), (2, 8), (3, 6)])
def test_it_moves_once_per_optimizer_step(tmp_path: Path, accumulate: int, steps: int) -> None:
    law, objective = Linear(4.0, 1.0), ForwardKL()
    watch = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", law)],
        objective,
        accumulate_grad_batches=accumulate,
    )
    assert watch.used == along(law, steps, steps)
    assert len(set(watch.batches)) == steps
    assert objective.temperature == 1.0


def test_it_moves_once_per_epoch(tmp_path: Path) -> None:
    law = Linear(4.0, 1.0)
    ramp = HyperparameterScheduler("temperature", law, interval="epoch")
    watch = fit(tmp_path, [ramp], ForwardKL(), max_epochs=3)
    assert watch.used == [(law(epoch, 3),) for epoch in range(3) for _ in range(8)]


def test_validation_and_the_sanity_check_do_not_move_it(tmp_path: Path) -> None:
    law = Linear(4.0, 1.0)
    watch = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", law)],
        ForwardKL(temperature=9.0),
        validation=runs.loader(),
        num_sanity_val_steps=2,
        val_check_interval=4,
        max_epochs=1,
    )
    assert watch.used == along(law, 8, 8)
    assert watch.evaluated[:2] == [(4.0,)] * 2  # the law holds from the start, not the 9
    assert set(watch.evaluated[2:10]) <= {(law(3, 8),), (law(4, 8),)}
    assert len(set(watch.evaluated[2:10])) == 1


def test_several_numbers_move_at_once_wherever_they_are(tmp_path: Path) -> None:
    laws = {
        "weights.ce": Linear(1.0, 0.0),
        "terms.taid.t": Linear(0.0, 1.0),
        "terms.inner.weights.kd": Constant(2.0),
        "terms.inner.terms.kd.temperature": Cosine(4.0, 1.0),
        "terms.inner.terms.jsd.beta": Linear(0.1, 0.9),
    }
    ramps = [HyperparameterScheduler(target, law) for target, law in laws.items()]
    watch = fit(tmp_path, ramps, mixture(), max_epochs=1)
    assert watch.used == [tuple(law(step, 8) for law in laws.values()) for step in range(8)]
    assert watch.trainer.callback_metrics["train/weights.ce"] == 0.0
    assert watch.trainer.callback_metrics["train/terms.taid.t"] == 1.0


def test_a_number_that_moves_has_its_effect(tmp_path: Path) -> None:
    still = fit(tmp_path, [], ForwardKL(), max_epochs=1)
    moved = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", Linear(1.0, 4.0))],
        ForwardKL(),
        max_epochs=1,
    )
    same = [one.loss == other.loss for one, other in zip(still.steps, moved.steps, strict=True)]
    assert same == [True] + [False] * 7


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, interval: Any) -> None:
    def ramps() -> list[HyperparameterScheduler]:
        return [
            HyperparameterScheduler("terms.taid.t", Linear(0.1, 0.9), interval),
            HyperparameterScheduler("weights.ce", Cosine(1.0, 0.0), interval),
        ]

    options: dict[str, Any] = {"accumulate_grad_batches": 2, "max_epochs": 3}
    whole = fit(tmp_path, ramps(), mixture(), save=True, **options)
    resumed = fit(
        tmp_path,
        ramps(),
        mixture(),
        resume=True,
        validation=runs.loader(),
        num_sanity_val_steps=1,
        **options,
    )
    assert resumed.used == whole.used[4:]
    assert [step.loss for step in resumed.steps] == [step.loss for step in whole.steps[4:]]
    assert resumed.evaluated[0] == whole.used[4 if interval == "step" else 0]


def test_each_ramp_saves_itself(tmp_path: Path) -> None:
    fit(
        tmp_path, [HyperparameterScheduler("temperature", Linear(4.0, 1.0))], ForwardKL(), save=True
    )
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=False)["callbacks"]
    state = saved["HyperparameterScheduler{'target': 'temperature'}"]
    assert state == {"done": 8, "law": "Linear(start=4.0, end=1.0, steps=None)"}


def test_a_missing_number_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no number 'weights.taid'.*there are: temperature$"):
        fit(tmp_path, [HyperparameterScheduler("weights.taid", Constant(1.0))], ForwardKL())
    with pytest.raises(ValueError, match=r"no number 'beta'.*weights.ce.*terms.taid.t"):
        fit(tmp_path, [HyperparameterScheduler("beta", Constant(1.0))], mixture())
    with pytest.raises(ValueError, match=r"no number 'temperature'.*there are: none"):
        fit(tmp_path, [HyperparameterScheduler("temperature", Constant(1.0))], CrossEntropy())


def test_one_number_has_one_mover(tmp_path: Path) -> None:
    two = [
        HyperparameterScheduler("temperature", Constant(1.0)),
        HyperparameterScheduler("temperature", Constant(2.0)),
    ]
    with pytest.raises(RuntimeError, match=r"state_key.*must be unique"):
        fit(tmp_path, two, ForwardKL())
    with pytest.raises(
        ValueError, match="HyperparameterScheduler and AdaptiveTAID both move 'terms.taid.t'"
    ):
        fit(
            tmp_path,
            [HyperparameterScheduler("terms.taid.t", Constant(1.0))],
            mixture(),
            others=[AdaptiveTAID()],
        )
    beside = fit(
        tmp_path,
        [HyperparameterScheduler("weights.taid", Linear(0.0, 1.0))],
        mixture(),
        others=[AdaptiveTAID()],
        max_epochs=1,
    )
    assert beside.used == along(Linear(0.0, 1.0), 8, 8)


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
    with pytest.raises(ValueError, match=r"Linear has steps=None.*unknown \(inf\); give the law"):
        fit(
            tmp_path,
            [HyperparameterScheduler("temperature", Linear(4.0, 1.0), interval)],
            ForwardKL(),
            **options,
        )


def test_a_law_with_steps_of_its_own_runs_without_end_in_sight(tmp_path: Path) -> None:
    law = Linear(4.0, 1.0, steps=3)
    data = DataLoader(runs.Endless(), 2)
    watch = fit(
        tmp_path,
        [HyperparameterScheduler("temperature", law)],
        ForwardKL(),
        data=data,
        max_epochs=-1,
        max_steps=5,
    )
    assert watch.used == along(law, 5, 3)


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="interval must be 'step' or 'epoch', got 'batch'"):
        HyperparameterScheduler("temperature", Constant(1.0), interval="batch")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"law must be one of kdlight.schedules, got float"):
        HyperparameterScheduler("temperature", 1.0)  # type: ignore[arg-type]


# ---- CTKD: a strength that grows, and a temperature that the optimizer moves


def test_the_learned_temperature_moves_as_far_as_its_strength_allows(tmp_path: Path) -> None:
    objective = LearnableTemperature(strength=0.0)
    temperatures = []

    class Temperatures(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            temperatures.append(objective.temperature)

    law = Piecewise([0.0, 1.0], [3])
    watch = fit(
        tmp_path, [HyperparameterScheduler("strength", law)], objective, others=[Temperatures()]
    )
    start = LearnableTemperature().temperature
    assert temperatures[:3] == [start] * 3
    assert temperatures[3] < start
    assert temperatures == sorted(temperatures, reverse=True)
    assert [step.parts["temperature"] for step in watch.steps[4:]] == pytest.approx(
        temperatures[3:-1]
    )


def test_the_learned_temperature_is_in_the_checkpoint(tmp_path: Path) -> None:
    whole = fit(tmp_path, [], LearnableTemperature(), save=True)
    resumed = fit(tmp_path, [], LearnableTemperature(), resume=True)
    assert [step.parts for step in resumed.steps] == [step.parts for step in whole.steps[8:]]
