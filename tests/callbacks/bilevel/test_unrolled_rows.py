"""The gradient of the ratio, against central differences of the loss that it is to lower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer

from kdlight import DistillationModule
from kdlight.callbacks import BilevelUpdate
from kdlight.callbacks.bilevel.fusion_term import fusion_term
from kdlight.modules.step_driver import STUDENT
from kdlight.reduce import Loss
from tests.support.bilevel_fit import Halves, Watch, module, quiet_trainer

PART = 40  # entries of each weight and bias of the network
STEP = 1  # the second one: by then the means of the classes are known


class CentralDifferences(Callback):
    """Differentiates the validation loss after a step in weights of the ratio network.

    The loss of the step is that of the module, with its terms and weights. Of several micro-batches
    the ratios of the last one are the ones that learn.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.batches: list[Any] = []
        self.gradient: Tensor | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.batches = []
        self.batches.append(batch)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: Any, optimizer: Optimizer
    ) -> None:
        if trainer.global_step != self.step:
            return
        held_out = list(trainer.datamodule.val_dataloader())[self.step]  # type: ignore[attr-defined]
        rate = optimizer.param_groups[0]["lr"]
        network = fusion_term(pl_module.objective).fusion.network

        weights = dict(pl_module.student.named_parameters())
        losses = [pl_module.learner_losses(each)[STUDENT][0] for each in self.batches]
        if pl_module.normalization == "local":
            divisors = [len(losses) * loss.count for loss in losses]
        else:
            divisors = [torch.stack([loss.count for loss in losses]).sum()] * len(losses)

        def slope(loss: Loss, divisor: Tensor) -> list[Tensor]:
            return list(torch.autograd.grad(loss.total / divisor, list(weights.values())))

        earlier = [slope(*each) for each in zip(losses[:-1], divisors, strict=False)]

        def loss_after_step() -> float:
            last = pl_module.learner_losses(self.batches[-1])[STUDENT][0]
            parts = [*earlier, slope(last, divisors[-1])]
            gradients = [torch.stack(each).sum(0) for each in zip(*parts, strict=True)]
            moved = {
                name: weight.detach() - rate * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
            pl_module.student.eval()
            logits = functional_call(pl_module.student, moved, (held_out,)).logits()
            pl_module.student.train()
            return torch.nn.functional.cross_entropy(logits, held_out[1]).item()

        slopes = [slope for p in network.parameters() for slope in _slopes(loss_after_step, p)]
        self.gradient = torch.tensor(slopes, dtype=torch.float64)


def _slopes(loss: Callable[[], float], parameter: Tensor, step: float = 1e-5) -> list[float]:
    slopes, flat = [], parameter.data.view(-1)
    for index in range(min(len(flat), PART)):
        value = flat[index].item()
        ends = []
        for sign in (1, -1):
            flat[index] = value + sign * step
            ends.append(loss())
        flat[index] = value
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return slopes


def gradients(
    form: Any, *, step: int = STEP, accumulate: int = 1, **options: Any
) -> tuple[Tensor, Tensor]:
    """Return the gradient that the optimizer of the ratio got, and the expected one."""
    update = BilevelUpdate(form=form)
    watch, central = Watch(update), CentralDifferences(step)
    this: DistillationModule = module(**options)
    trainer = quiet_trainer(
        central, update, watch, max_steps=step + 1, accumulate_grad_batches=accumulate
    )
    trainer.fit(this, Halves())
    network = fusion_term(this.objective).fusion.network
    parts = watch.gradients[step].split([p.numel() for p in network.parameters()])
    assert central.gradient is not None
    return torch.cat([each[:PART] for each in parts]), central.gradient


@pytest.mark.parametrize(
    ("form", "tolerance"), [("exact", 1e-6), ("finite_difference", 1e-2)], ids=["exact", "finite"]
)
def test_the_gradient_is_that_of_the_validation_loss_after_a_step(form: str, tolerance: float):
    found, expected = gradients(form)
    assert expected.norm() > 1e-4
    assert (found - expected).norm() / expected.norm() < tolerance
    assert (found - expected).abs().max() / expected.abs().max() < tolerance


@pytest.mark.parametrize("normalization", ["global", "local"])
def test_with_accumulation_it_is_that_of_the_ratios_of_the_last_batch(normalization: str) -> None:
    found, expected = gradients("exact", step=0, accumulate=2, normalization=normalization)
    assert expected.norm() > 1e-4
    assert (found - expected).norm() / expected.norm() < 1e-6
