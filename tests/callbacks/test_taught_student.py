"""A student that has learned from the labels, for a while."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from kdlight.callbacks.taught_student import taught_student
from kdlight.modules import DistillationModule
from kdlight.objectives import CrossEntropy
from tests.support import runs


def attached() -> tuple[Any, DistillationModule, Any]:
    module = runs.module(CrossEntropy())
    trainer = runs.trainer("")  # type: ignore[arg-type]
    trainer.strategy.connect(module)
    module.trainer = trainer
    batch = next(iter(DataLoader(runs.loader().dataset, 16)))
    return trainer, module, batch


def test_it_has_learned_within_the_block_only() -> None:
    trainer, module, batch = attached()
    before = {name: value.clone() for name, value in module.student.state_dict().items()}
    loss = lambda: module.objective(module.loss_inputs(batch)).mean().item()  # noqa: E731
    first = loss()
    module.student.eval()
    with taught_student(trainer, module, repeat(batch), steps=40, lr=0.1):
        assert loss() < 0.9 * first
        assert not module.student.training
    assert loss() == first
    assert all(torch.equal(value, before[n]) for n, value in module.student.state_dict().items())
    assert all(p.grad is None for p in module.student.parameters())


def test_it_is_given_back_after_an_error() -> None:
    trainer, module, batch = attached()
    before = [p.clone() for p in module.student.parameters()]
    with (
        pytest.raises(KeyboardInterrupt),
        taught_student(trainer, module, repeat(batch), steps=1, lr=0.1),
    ):
        raise KeyboardInterrupt
    assert all(map(torch.equal, before, module.student.parameters()))


def test_it_is_given_back_after_an_error_in_its_training() -> None:
    trainer, module, batch = attached()
    before = [p.clone() for p in module.student.parameters()]
    module.student.eval()
    batches = chain([batch], (1 // 0 for _ in range(1)))
    with (
        pytest.raises(ZeroDivisionError),
        taught_student(trainer, module, batches, steps=2, lr=0.1),
    ):
        pass
    assert all(map(torch.equal, before, module.student.parameters()))
    assert all(p.grad is None for p in module.student.parameters())
    assert not module.student.training


def test_no_steps_leave_it_as_it_is_without_a_batch() -> None:
    trainer, module, _ = attached()
    with taught_student(trainer, module, iter(()), steps=0, lr=0.1):
        pass
