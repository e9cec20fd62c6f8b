"""Train small teachers before the distillation starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim import AdamW

from kdlight.callbacks.training_batches import check_datamodule, repeated_batches
from kdlight.checks import check_integer, check_positive, check_type
from kdlight.models.call_network import call_network
from kdlight.modules.base import DistillationBase
from kdlight.objectives import CrossEntropy
from kdlight.sources import Logits, LogitsSource
from kdlight.teachers import Teacher, frozen_teachers


class TrainTeacherFirst(Callback):
    """Trains the teacher on the labels before the distillation starts, then freezes it again.

    Choose it for teachers that train in seconds, so that a config is complete. Load a larger
    teacher from a checkpoint instead. Every rank trains on the same data from the same seed, so
    all ranks have the same teacher. A resumed run trains it again.

    Of several teachers, as in a `kdlight.TeacherEnsemble`, each live network is trained, one after
    the other and each from the same seed. One that several teachers share is trained once, without
    the masks of a `kdlight.teachers.MaskedTeacher`; those of a cached teacher are not trained.

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
        check_integer("epochs", epochs, 1)
        check_type("lr", lr, (int, float), "a number")
        check_positive("lr", lr)
        check_integer("seed", seed, 0)
        self.epochs, self.lr, self.seed = epochs, lr, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are a teacher to train and data."""
        teacher = getattr(pl_module, "teacher", None)
        found = frozen_teachers(teacher) if isinstance(teacher, Teacher) else []
        if not isinstance(pl_module, DistillationBase) or not found:
            raise ValueError(
                "TrainTeacherFirst needs a kdlight.DistillationModule, or a module with the"
                " kdlight.DistillationMixin, whose teacher is a FrozenTeacher, or has one, got"
                f" {type(pl_module).__name__} with teacher {type(teacher).__name__}"
            )
        for each in found:
            if not isinstance(each.model, nn.Module):
                raise ValueError(
                    "TrainTeacherFirst trains the teacher, but a"
                    f" {type(each.model).__name__} has no weights; give a torch.nn.Module"
                )
        check_datamodule("TrainTeacherFirst", trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train each network of the teacher."""
        assert isinstance(pl_module, DistillationBase)
        for network in networks_to_train(pl_module.teacher):
            self.train(network, trainer, pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def train(
        self, network: nn.Module, trainer: Trainer, pl_module: DistillationBase, data: Any
    ) -> None:
        """Train a network of the teacher on the training batches of a data module."""
        objective, teacher = CrossEntropy(), pl_module.teacher
        # so that logits are computed as the module computes them
        pl_module.teacher = _Learning(network)
        with isolate_rng(), torch.enable_grad(), _restored(pl_module, teacher):
            torch.manual_seed(self.seed)
            loader = data.train_dataloader()
            network.train().requires_grad_(True)
            optimizer = AdamW(network.parameters(), lr=self.lr)
            steps = self.epochs * len(loader)
            decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
            loss = torch.zeros(())
            for batch in islice(repeated_batches(trainer, pl_module, loader), steps):
                logits = pl_module.teacher_logits(batch)
                assert logits is not None
                loss = objective(pl_module.make_loss_inputs(batch, logits, None)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                decay.step()
            network.zero_grad()
            network.eval().requires_grad_(False)
        rank_zero_info(f"Teacher trained for {steps} steps; its last loss was {loss.item():.4f}")


def networks_to_train(teacher: Teacher) -> list[nn.Module]:
    """Return the live networks of a teacher, each once, in the order of the teachers.

    Example:
        >>> from kdlight import TeacherEnsemble
        >>> network = nn.Linear(2, 3)
        >>> ensemble = TeacherEnsemble({"a": network, "b": nn.Linear(2, 3), "c": network})
        >>> len(networks_to_train(ensemble))
        2
    """
    return list(dict.fromkeys(each.model for each in frozen_teachers(teacher)))


class _Learning(Teacher):
    """The network of a teacher while it is trained: with gradients, and in training mode."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        return call_network(self.network, batch)


@contextmanager
def _restored(module: DistillationBase, teacher: Teacher) -> Iterator[None]:
    """Give the module its teacher back."""
    try:
        yield
    finally:
        module.teacher = teacher
