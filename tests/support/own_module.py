"""A LightningModule that does not know kdlight, and the same with the mixin."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from kdlight import DistillationMixin

WIDTH, CLASSES = 4, 3


class Classifier(LightningModule):
    """A module that does not know kdlight."""

    def __init__(self, hidden: int = 5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = net(hidden, seed=1)
        self.accuracy = MulticlassAccuracy(CLASSES)
        self.hooks: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = cross_entropy(self(x), y)
        self.log("train/loss", loss)
        return {"loss": loss, "size": len(x)}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.accuracy(self(x), y)
        self.log("val_accuracy", self.accuracy)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def on_train_epoch_start(self) -> None:
        self.hooks.append("epoch")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.hooks.append("step")
        self.gradient = self.flat_gradient()

    def on_before_zero_grad(self, optimizer: Any) -> None:
        if self.hooks[-1] == "step":  # the hook above has the gradients that the optimizer uses
            torch.testing.assert_close(self.gradient, self.flat_gradient(), rtol=0, atol=0)
            self.hooks[-1] = "used"

    def flat_gradient(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert outputs.get("size", len(batch[0])) == len(batch[0])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["own_entry"] = 1


class Distilled(DistillationMixin, Classifier):
    """The same module with the mixin."""

    def student_logits(self, batch: Any) -> Tensor:
        return self(batch[0])

    def teacher_logits(self, batch: Any) -> Any:
        assert self.teacher is not None
        return self.teacher(batch[0])


def net(hidden: int, *, seed: int) -> nn.Module:
    """Return a classifier of one hidden layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(WIDTH, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES))
