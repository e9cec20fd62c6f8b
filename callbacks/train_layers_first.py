"""Train modules of the student on those of the teacher before the distillation starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from math import isfinite
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LinearLR

from kdlight.callbacks.training_batches import check_datamodule, repeated_batches
from kdlight.checks import check_integer, check_positive, check_type
from kdlight.distributed.ranks import data_parallel_sum
from kdlight.features import LayerMapping
from kdlight.features.numbered_pairs import numbered_pairs
from kdlight.modules import DistillationBase, LayerwiseDistillationModule
from kdlight.modules.guards import NonFiniteLossError
from kdlight.modules.layer_checks import check_one_stack, check_whole
from kdlight.modules.layer_loss import RowLoss
from kdlight.modules.optimizers import trainable
from kdlight.modules.step_driver import STUDENT


class TrainLayersFirst(Callback):
    """Trains modules of the student, each by itself, before the distillation starts.

    A module gets what its teacher module gets and learns to return the same, as in a
    `kdlight.LayerwiseDistillationModule`, which this uses. Choose it where layers were replaced by
    others, as in a `kdlight.models.HybridMamba`: they learn their task in a fraction of the steps
    that the whole student would need. So one run has all stages, and the steps of the run are those
    of the stages that follow.

    Each rank trains on the batches that the data module gives it. Gradients are summed over ranks
    and divided by the number of positions of all of them, so that all ranks have the same weights.
    A run that is resumed from a checkpoint does not train the layers again: it has their weights.
    FSDP2 and DeepSpeed are refused, as they gather a module only where the whole student runs.

    Args:
        pairs: the path of the teacher's module for each path of the student's, or a
            `kdlight.features.LayerMapping`. With a ``*`` in both paths, as in
            ``{"layers.*.mamba": "layers.*.self_attn"}``, all modules of the student with such a
            path are paired with those of the same number.
        steps: optimizer steps, at least 1; the data are repeated if they are shorter.
        lr: learning rate of AdamW, above 0; decays linearly to 0.
        loss: see `kdlight.LayerwiseDistillationModule`.
        seed: seed of dropout, and of what the data draw at random.

    Raises:
        TypeError: An argument of another kind.
        ValueError: A number outside its range; when a fit is set up: a path that leads to no
            module, a module without a live teacher, a run without a data module, or a strategy that
            shards networks.

    Attributes:
        losses: the mean loss over pairs and positions of each step, also in a resumed run.

    Example:
        >>> TrainLayersFirst({"layers.*.mamba": "layers.*.self_attn"}, steps=0)
        Traceback (most recent call last):
        ValueError: steps must be at least 1, got 0
    """

    def __init__(
        self,
        pairs: dict[str, str] | LayerMapping,
        steps: int = 100,
        lr: float = 1e-3,
        loss: Literal["mse", "smooth_l1", "cosine", "normalized_mse"] | RowLoss = "mse",
        seed: int = 0,
    ) -> None:
        check_type("pairs", pairs, (Mapping, LayerMapping), "a dict of paths or a LayerMapping")
        check_integer("steps", steps, 1)
        check_type("lr", lr, (int, float), "a number")
        check_positive("lr", lr)
        check_integer("seed", seed, 0)
        self.pairs, self.steps, self.lr, self.loss, self.seed = pairs, steps, lr, loss, seed
        self.losses: list[float] = []
        self._is_resumed = False
        self._layers: _Layers | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are modules to train, a teacher and data."""
        if stage != "fit":
            return
        self._is_resumed = False
        teacher = getattr(pl_module, "teacher", None)
        student = pl_module.known_student() if isinstance(pl_module, DistillationBase) else None
        if student is None or not isinstance(pl_module, DistillationBase):
            raise ValueError(
                "TrainLayersFirst needs a kdlight.DistillationModule, or a module with the"
                " kdlight.DistillationMixin that defines student_network(), got a"
                f" {type(pl_module).__name__}"
            )
        check_datamodule("TrainLayersFirst", trainer)
        check_whole(trainer.strategy)
        check_one_stack(pl_module.student_kind())
        pairs = self.pairs
        if not isinstance(pairs, LayerMapping):
            pairs = numbered_pairs(student, pairs)
        self._layers = _Layers(student, teacher, pairs, self.loss)  # type: ignore[arg-type]
        self._layers.owners = (pl_module,)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember that the weights come from a checkpoint."""
        self._is_resumed = True

    def state_dict(self) -> dict[str, Any]:
        """Return the losses."""
        return {"losses": list(self.losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the losses."""
        self.losses = list(state_dict["losses"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the modules, unless the run is resumed or goes on."""
        layers, self._layers = self._layers, None
        assert layers is not None
        if self._is_resumed or trainer.global_step:
            rank_zero_info("TrainLayersFirst: the layers are those of the checkpoint or run before")
            return
        with isolate_rng(), torch.enable_grad():
            torch.manual_seed(self.seed)
            self.losses = list(self._train(layers, trainer))
        layers.student.zero_grad()
        rank_zero_info(
            f"TrainLayersFirst: {len(layers.module_names)} modules trained for {self.steps} steps;"
            f" their mean loss fell from {self.losses[0]:.4g} to {self.losses[-1]:.4g}"
        )

    def _train(self, layers: _Layers, trainer: Trainer) -> Iterator[float]:
        parameters = [p for each in layers.student_modules().values() for p in trainable(each)]
        optimizer = AdamW(parameters, lr=self.lr)
        decay = LinearLR(optimizer, 1.0, 0.0, total_iters=self.steps)
        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        batches = repeated_batches(trainer, layers.owner, loader)
        for step, batch in enumerate(islice(batches, self.steps)):
            loss = layers.learner_losses(batch)[STUDENT][0]
            # hooks of DDP would wait for the gradients of all other parameters
            found = torch.autograd.grad(loss.total, parameters, allow_unused=True)
            sums = torch.stack([loss.total.detach().double(), loss.count.double()])
            total, positions = data_parallel_sum(trainer, sums).tolist()
            mean = total / max(positions, 1)
            if not isfinite(mean):
                raise NonFiniteLossError(
                    f"the loss of step {step} of TrainLayersFirst is {mean}; lower lr={self.lr}"
                )
            for parameter, grad in zip(parameters, found, strict=True):
                grad = torch.zeros_like(parameter) if grad is None else grad
                parameter.grad = data_parallel_sum(trainer, grad) / max(positions, 1)
            optimizer.step()
            decay.step()
            yield mean


class _Layers(LayerwiseDistillationModule):
    """Layer-wise distillation of the student of another module, which it reads batches like."""

    owners: tuple[DistillationBase]  # a module in a tuple is no part of this one

    @property
    def owner(self) -> DistillationBase:
        return self.owners[0]

    def aligned_labels(self, batch: Any) -> Tensor | None:
        return self.owner.aligned_labels(batch)

    def teacher_logits(self, batch: Any) -> Any:
        return self.owner.teacher_logits(batch)
