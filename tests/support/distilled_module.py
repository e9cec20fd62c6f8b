"""A LightningModule of someone else with the mixin, as the command line takes it."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from kdlight import CausalLM, DistillationMixin
from kdlight.objectives import ForwardKL


class LanguageModel(LightningModule):
    """A module that does not know kdlight, over a model of transformers."""

    def __init__(self, source: str, rate: float = 0.1) -> None:
        super().__init__()
        self.net = CausalLM(source).model
        self.rate = rate

    def forward(self, batch: Any) -> Tensor:
        return self.net(batch["input_ids"]).logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits, labels = self(batch)[:, :-1], batch["labels"][:, 1:]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("own_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class Distilled(DistillationMixin, LanguageModel):
    """The same with a teacher. It does not call ``save_hyperparameters``."""

    def __init__(self, source: str, rate: float = 0.1, temperature: float = 2.0) -> None:
        super().__init__(source, rate)
        teacher = CausalLM(source)
        self.distill(ForwardKL(temperature=temperature), teacher)

    def student_logits(self, batch: Any) -> Tensor:
        return self(batch)
