"""An objective on tokens of the student gets no others, in a fit with the real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.callbacks import HyperparameterScheduler, OnPolicy, SequenceCorrection
from kdlight.callbacks.generation.rows import Row
from kdlight.callbacks.generation.sampled_labels import only_sampled
from kdlight.models import Sampling
from kdlight.objectives import CrossEntropy, ForwardKL, SampledReverseKL, Weighted
from kdlight.rollouts import VLLMRollouts
from kdlight.schedules import Linear
from tests.callbacks.test_on_policy import Watch, fit, module
from tests.callbacks.test_on_policy import loader as toy_loader
from tests.support import toy


def kd() -> Any:
    return Weighted({"kd": SampledReverseKL(temperature=2.0), "ce": CrossEntropy()})


HOT = Sampling(temperature=2.0)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda: OnPolicy(0.5, HOT), "OnPolicy has fraction=0.5; set fraction to 1"),
        (lambda: OnPolicy(Linear(0.0, 1.0), HOT), "has fraction=.*; set fraction to 1"),
        (lambda: OnPolicy(1.0, HOT, refresh_every=2), "refresh_every=2, text of an older student"),
        (lambda: OnPolicy(1.0), "a temperature of 1.0, and its own is 2.0; set both"),
        (lambda: OnPolicy(1.0, Sampling(temperature=2.0, top_p=0.9)), "top_p=0.9; set top_p"),
        (lambda: SequenceCorrection(sampling=HOT), "SequenceCorrection has text that is changed"),
        (
            lambda: OnPolicy(1.0, HOT, engine=VLLMRollouts("http://127.0.0.1:9", sync_every=4)),
            "an engine with sync_every=4, text of an older student; set sync_every to 1",
        ),
    ],
)
def test_other_labels_are_refused_before_the_first_step(
    callback: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, callback(), objective=kd())


def test_a_schedule_of_the_temperature_is_refused_before_it_has_an_effect(tmp_path: Path) -> None:
    class Watched(OnPolicy):
        def on_before_optimizer_step(self, trainer: Any, *given: Any) -> None:
            steps.append(trainer.global_step)

    steps: list[int] = []
    for order in (1, -1):
        steps.clear()
        schedule = HyperparameterScheduler("terms.kd.temperature", Linear(2.0, 4.0))
        trainer = toy.trainer(tmp_path, callbacks=[Watched(1.0, HOT), schedule][::order])
        with pytest.raises(ValueError, match=r"temperature of 2.0, and its own is 3.0; set both"):
            trainer.fit(module(kd()), toy_loader())
        assert steps == [0]  # at which the temperature is still that of the sampling


SETTINGS: list[dict[str, Any]] = [
    {"repetition_penalty": 1.5},
    {"min_p": 0.5},
    {"suppress_tokens": [3, 4, 5, 6]},
    {"num_beams": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_tokens_are_drawn_from_the_student_whatever_its_config_sets(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    def batches(objective: Any, given: dict[str, Any]) -> list[list[Any]]:
        watch, made = Watch(), module(objective)
        student: Any = made.student
        student.model.generation_config.update(**given)
        toy.trainer(tmp_path, callbacks=[OnPolicy(), watch]).fit(made, toy_loader(24))
        return [batch["input_ids"].tolist() for batch in watch.batches]

    assert batches(SampledReverseKL(), settings) == batches(SampledReverseKL(), {})
    assert batches(ForwardKL(), settings) != batches(ForwardKL(), {})


def test_other_objectives_are_not_concerned(tmp_path: Path) -> None:
    fit(tmp_path, OnPolicy(0.5, Sampling(top_p=0.9), refresh_every=2), objective=ForwardKL())


def ragged(short: int) -> torch.utils.data.DataLoader:
    """Plain text, of which one row in four has no room for a response."""

    def collate(rows: Any) -> dict[str, Tensor]:
        batch = toy.pad(rows)
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["labels"][0, short:] = -100
        batch["attention_mask"][0, short:] = 0
        return batch

    return torch.utils.data.DataLoader(toy.Ragged(8, length=12, silent=()), 4, collate_fn=collate)


@pytest.mark.parametrize("objective", [SampledReverseKL, ForwardKL])
def test_a_row_that_keeps_its_text_does_not_count(objective: Any, tmp_path: Path) -> None:
    watch = Watch()
    callback = OnPolicy(prompt_tokens=4)
    toy.trainer(tmp_path, callbacks=[callback, watch]).fit(module(objective()), ragged(3))
    for batch in watch.batches:
        counts = (batch["labels"] != -100).any(-1)
        assert counts.tolist() == [objective is ForwardKL, True, True, True]


def test_rows_with_a_response_stay_as_they_are() -> None:
    ids = torch.tensor([1, 2, 3])
    row = Row(ids, ids, prompt=1, limit=3)
    assert only_sampled([row])[0] is row
