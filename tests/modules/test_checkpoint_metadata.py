"""Descriptions of a run in its checkpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import kdlight
from kdlight.checkpoints import FORMAT
from kdlight.modules.checkpoint_metadata import (
    check_checkpoint,
    checkpoint_metadata,
    describe_config,
    describe_run,
)
from kdlight.objectives import ForwardKL

PARTS = {"student": nn.Linear(2, 3), "teacher": None, "objective": ForwardKL()}


def test_metadata_has_a_format_and_a_version() -> None:
    run = {"objective": "ForwardKL"}
    assert checkpoint_metadata(run) == {
        "format": FORMAT,
        "version": kdlight.__version__,
        "run": run,
    }


def test_parts_are_described_by_their_configs_or_their_classes() -> None:
    config = {"class_path": "kdlight.objectives.ForwardKL", "init_args": {"temperature": 2.0}}
    assert describe_run(PARTS, {"objective": config, "teacher": None}, None) == {
        "student": "Linear",
        "teacher": None,
        "objective": "ForwardKL(temperature=2.0)",
    }


def test_a_model_is_described_by_where_it_was_loaded_from() -> None:
    model = SimpleNamespace(config=SimpleNamespace(name_or_path="org/model"))
    assert describe_run({"student": SimpleNamespace(model=model)}, {}, None) == {
        "student": "SimpleNamespace(org/model)"
    }


class Data:
    """A data module with arguments that are plain, and one that is not."""

    def __init__(self, path: str, size: int = 3, collate: Any = None) -> None:
        self.path, self.size, self.collate = path, size, collate
        self.tokenizer_source: Any = "org/tokenizer"


def test_data_steps_and_metrics_are_those_of_the_trainer() -> None:
    data = Data("texts.jsonl", collate=print)
    metrics = {"val/loss": torch.tensor(0.5)}
    trainer: Any = SimpleNamespace(datamodule=data, global_step=7, callback_metrics=metrics)
    described = describe_run({}, {}, trainer)
    assert described == {
        "data": "Data(path='texts.jsonl', size=3)",
        "tokenizer": "org/tokenizer",
        "steps": 7,
        "metrics": {"val/loss": 0.5},
    }
    data.tokenizer_source = object()  # a tokenizer instead of its source
    assert describe_run({}, {}, trainer)["tokenizer"] is None
    trainer.datamodule = None
    assert describe_run({}, {}, trainer).keys() == {"steps", "metrics"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (3, "3"),
        ({"kd": 0.5}, "{kd: 0.5}"),
        ({"class_path": "a.B"}, "B()"),
        (
            {"class_path": "a.B", "init_args": {"inner": {"class_path": "c.D"}, "none": None}},
            "B(inner=D())",
        ),
    ],
)
def test_configs_are_described_in_one_line(config: Any, expected: str) -> None:
    assert describe_config(config) == expected


def test_a_checkpoint_must_fit_the_run() -> None:
    weights = {"student.weight": torch.zeros(2, 3)}
    checkpoint = {"state_dict": weights, "kdlight": {"format": FORMAT}}
    check_checkpoint(checkpoint, "ForwardKL", weights)
    with pytest.raises(ValueError, match="student.weight"):
        check_checkpoint(checkpoint, "ForwardKL", {"student.weight": torch.zeros(2, 4)})
    check_checkpoint(checkpoint, "ForwardKL", None)  # weights are not checked
    with pytest.raises(ValueError, match="format"):
        check_checkpoint({"kdlight": {"format": FORMAT + 1}}, "ForwardKL", None)


@pytest.mark.filterwarnings("error")
def test_another_objective_causes_a_warning_and_other_arguments_do_not() -> None:
    checkpoint = {"kdlight": {"format": FORMAT, "run": {"objective": "ForwardKL(temperature=2.0)"}}}
    check_checkpoint(checkpoint, "ForwardKL(temperature=4.0)", None)
    check_checkpoint({}, "ForwardKL", None)
    with pytest.warns(UserWarning, match=r"trained with ForwardKL\(temperature=2.0\), and this"):
        check_checkpoint(checkpoint, "ReverseKL", None)
