"""Train a small teacher before the distillation starts."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch.optim import AdamW

from kdlight.modules import StandaloneModule
from kdlight.objectives import CrossEntropy
from kdlight.teachers import FrozenTeacher


class TrainTeacherFirst(Callback):
    """Trains the teacher on the labels before the distillation starts, then freezes it again.

    Choose it for teachers that train in seconds, so that a config is complete. Load a larger
    teacher from a checkpoint instead. Every rank trains on the same data from the same seed, so
    all ranks have the same teacher. A resumed run trains it again.

    Args:
        epochs: passes over the training data, at least 1.
        lr: learning rate of AdamW, above 0; decays linearly to 0.
        seed: seed of the order of the data and of dropout.

    Raises:
        ValueError: A number outside its range; a module without a `kdlight.FrozenTeacher`; a run
            without a data module.

    Example:
        >>> TrainTeacherFirst(epochs=0)
        Traceback (most recent call last):
        ValueError: epochs must be at least 1, got 0
    """

    def __init__(self, epochs: int = 10, lr: float = 2e-3, seed: int = 0) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        if not lr > 0:
            raise ValueError(f"lr must be above 0, got {lr}")
        self.epochs, self.lr, self.seed = epochs, lr, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are a teacher to train and data."""
        teacher = getattr(pl_module, "teacher", None)
        if not isinstance(pl_module, StandaloneModule) or not isinstance(teacher, FrozenTeacher):
            raise ValueError(
                "TrainTeacherFirst needs a DistillationModule whose teacher is a FrozenTeacher, got"
                f" {type(pl_module).__name__} with teacher {type(teacher).__name__}"
            )
        if trainer.datamodule is None:  # type: ignore[attr-defined]
            raise ValueError(
                "TrainTeacherFirst takes its data from a LightningDataModule; pass one to fit"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the teacher."""
        assert isinstance(pl_module, StandaloneModule)
        assert isinstance(pl_module.teacher, FrozenTeacher)
        network = pl_module.teacher.model
        objective = CrossEntropy()
        with isolate_rng(), torch.enable_grad():
            torch.manual_seed(self.seed)
            loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
            network.train().requires_grad_(True)
            optimizer = AdamW(network.parameters(), lr=self.lr)
            steps = self.epochs * len(loader)
            decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
            loss = torch.zeros(())
            for epoch in range(self.epochs):
                if hasattr(
                    loader.sampler, "set_epoch"
                ):  # outside of its loops the Trainer does not
                    loader.sampler.set_epoch(epoch)
                for batch in loader:
                    batch = trainer.strategy.batch_to_device(batch, pl_module.device)
                    loss = objective(pl_module.make_loss_inputs(batch, network(batch), None)).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    decay.step()
            network.zero_grad()
            network.eval().requires_grad_(False)
        rank_zero_info(f"Teacher trained for {steps} steps; its last loss was {loss.item():.4f}")
