"""Conflicts between the model of a checkpoint and that of the command line.

Runs from such checkpoints are in tests/test_checkpoints.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kdlight.cli.checkpoint_conflicts import (
    OnConflict,
    check_checkpoint_weights,
    describe_conflicts,
    differences,
    model_config,
)
from tests.support import toy

SAVED = {"class_path": "Module", "init_args": {"chunked": False, "net": {"class_path": "A"}}}


def test_equal_configs_have_no_differences() -> None:
    assert list(differences(SAVED, {**SAVED})) == []


def test_options_are_equal_wherever_they_are_given() -> None:
    current = {"class_path": "Module", "dict_kwargs": SAVED["init_args"]}
    assert list(differences(SAVED, current)) == []


def test_a_difference_is_spelled_as_on_the_command_line() -> None:
    current = {"class_path": "Module", "init_args": {"net": {"class_path": "B"}, "lr": 0.1}}
    assert sorted(differences(SAVED, current)) == [
        ("model.chunked", False, None),
        ("model.lr", None, 0.1),
        ("model.net", "A", "B"),
    ]


def test_a_module_that_was_created_in_python_has_no_config() -> None:
    assert model_config({"temperature": 1.0}) is None
    options = {"_class_path": "Module", "_instantiator": "x", "lr": 0.1}
    assert model_config(options) == {"class_path": "Module", "init_args": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("on_conflict", "note"), [("error", True), ("checkpoint", False), ("command_line", True)]
)
def test_the_optimizer_state_is_mentioned_where_its_lr_differs(
    on_conflict: OnConflict, note: bool
) -> None:
    message = describe_conflicts([("model.optimizer.lr", 0.1, 0.2)], on_conflict=on_conflict)
    assert "  model.optimizer.lr: 0.1 in the checkpoint, 0.2 given" in message
    assert ("optimizer state" in message) == note
    other = describe_conflicts([("model.temperature", 1, 2)], on_conflict=on_conflict)
    assert "optimizer state" not in other


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    trainer = toy.trainer(tmp_path)
    module = toy.module()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    check_checkpoint_weights(module, str(path))
    check_checkpoint_weights(module, None)
    module.student.extra = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"student\.extra"):
        check_checkpoint_weights(module, str(path))
    assert torch.load(path, weights_only=True)["state_dict"]
