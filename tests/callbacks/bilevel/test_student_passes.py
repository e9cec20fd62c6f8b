"""Passes of a student outside of its training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from kdlight.callbacks.bilevel.student_passes import (
    full_precision,
    run_precision,
    validation_gradient,
    with_teacher,
)
from kdlight.callbacks.inference.logit_inputs import logit_inputs
from tests.support import runs
from tests.support.bilevel_fit import Halves, module, quiet_trainer


class Probe(Callback):
    """Compares passes with those of the module in the midst of a fit, and keeps the precisions."""

    def __init__(self) -> None:
        self.dtypes: list[torch.dtype] = []
        self.is_checked = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:  # the batch is looked at for the first time later
            return
        own = pl_module.loss_inputs(batch)
        both, alone = with_teacher(pl_module, batch), logit_inputs(pl_module, batch)
        assert both.teacher is not None
        assert own.teacher is not None
        assert torch.equal(both.teacher.logits(), own.teacher.logits())
        assert torch.equal(torch.as_tensor(both.labels), torch.as_tensor(own.labels))
        assert torch.equal(alone.student.logits(), own.student.logits())
        assert alone.teacher is None
        for context in (full_precision(trainer), run_precision(trainer)):
            with context:
                self.dtypes.append(pl_module.student_logits(batch).logits().dtype)
        weights = list(pl_module.student.parameters())
        before = [weight.grad for weight in weights]  # of the last step
        assert before[0] is not None
        values = [each.clone() for each in before if each is not None]
        loss, gradient = validation_gradient(trainer, pl_module, batch, weights)
        pl_module.eval()
        with run_precision(trainer):
            logits = pl_module.student_logits(batch).logits().to(weights[0].dtype)
        pl_module.train()
        expected = torch.nn.functional.cross_entropy(logits, batch[1])
        torch.testing.assert_close(loss, expected.item(), rtol=1e-5, atol=1e-6)
        for found, wanted in zip(gradient, torch.autograd.grad(expected, weights), strict=True):
            torch.testing.assert_close(found, wanted)
        assert all(weight.grad is each for weight, each in zip(weights, before, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(values, before, strict=True))  # type: ignore[arg-type]
        assert all(part.training for part in pl_module.student.modules())
        self.is_checked = True


@pytest.mark.parametrize(
    ("precision", "dtypes"),
    [
        ("64-true", [torch.float64, torch.float64]),
        ("bf16-mixed", [torch.float32, torch.bfloat16]),
        ("16-mixed", [torch.float32, torch.float32]),
    ],
    ids=["64", "bf16", "fp16"],
)
def test_passes_are_those_of_the_module(precision: str, dtypes: list[torch.dtype]):
    probe = Probe()
    options: Any = {"precision": precision}
    if precision == "16-mixed":
        options = {"plugins": runs.mixed_precision()}
    wide = torch.float64 if precision == "64-true" else torch.float32
    this = module(dtype=wide, student={"norm": True})
    quiet_trainer(probe, max_steps=2, **options).fit(this, Halves(dtype=wide))
    assert probe.is_checked
    assert probe.dtypes == dtypes
