"""A module that owns its networks: their metrics, optimizer, sharding and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from torch import Tensor, nn

from kdlight.distributed.batches import check_evaluation_batches
from kdlight.distributed.sharding import shard
from kdlight.metrics import DistillationMetrics
from kdlight.modules.base import DistillationBase
from kdlight.modules.checkpoint_metadata import (
    check_checkpoint,
    checkpoint_metadata,
    describe_run,
)
from kdlight.modules.optimizers import (
    Groups,
    OptimizerFactory,
    Schedule,
    check_scheduler_config,
    make_optimizer,
    make_optimizer_config,
)
from kdlight.sources import as_source


def from_config() -> bool:
    """Return whether a module is being created from a config, which holds plain data only."""
    return _given_hyperparameters.get() is not None


class StandaloneModule(DistillationBase):
    """A `DistillationBase` that is complete: it has networks, metrics and an optimizer.

    Attributes:
        student: the network that is trained.
        metrics: the metrics of the student, logged as ``val/...`` and ``test/...``.
        optimizer: one factory of an optimizer, or one for each part by name.
        lr_scheduler: from the optimizer to a schedule, or None.
        lr_scheduler_config: options of Lightning's scheduler dict.
        learning_rate: of all parameter groups, instead of that of the optimizer; None for that of
            the optimizer. Lightning's ``Tuner.lr_find`` sets it.
        rebuilding: what to change in the config of the module, so that its networks are built
            again without data, see `kdlight.models.rebuild_config`; saved in checkpoints.
        loader_metrics: the metrics of each loader that is evaluated, by its number.

    Example:
        >>> import torch
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> module = DistillationModule(SingleInput(nn.Linear(4, 3)), CrossEntropy())
        >>> isinstance(module, StandaloneModule), module((torch.zeros(2, 4),)).shape
        (True, torch.Size([2, 3]))
    """

    student: nn.Module
    metrics: DistillationMetrics
    learning_rate: float | None = None
    rebuilding: Mapping[str, Any] = {}
    loader_metrics: Mapping[int, Mapping[str, DistillationMetrics]] = {}

    def setup_optimizers(
        self,
        optimizer: OptimizerFactory | Mapping[str, OptimizerFactory],
        lr_scheduler: Schedule | None,
        lr_scheduler_config: Mapping[str, Any] | None,
    ) -> None:
        """Set how `configure_optimizers` creates the optimizer and its schedule."""
        check_scheduler_config(lr_scheduler_config)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_scheduler_config = lr_scheduler_config

    def parameter_groups(self) -> dict[str, Groups]:
        """Return the parameter groups of each part that may have an optimizer of its own."""
        raise NotImplementedError(f"{type(self).__name__} does not define parameter_groups()")

    def parts(self) -> dict[str, Any]:
        """Return ``student``, ``teacher`` and ``objective``, to be described in checkpoints."""
        return {"student": None, "teacher": self.teacher, "objective": self.objective}

    def part_configs(self) -> Mapping[str, Any]:
        """Return the configs of these parts, where the run was made from a config."""
        return self.hparams

    def describe_run(self) -> dict[str, Any]:
        """Describe the run and its latest metrics, as far as they are known."""
        return describe_run(self.parts(), self.part_configs(), self._trainer)

    def forward(self, batch: Any) -> Tensor:
        """Return the student's logits for ``batch`` as a tensor, ``(..., V)``."""
        return as_source(self.student_logits(batch)).logits()

    def labels(self, batch: Any) -> Tensor | None:
        """Return aligned labels ``(...)``, -100 at invalid positions; None if there are none.

        Override it for batches whose labels are made or named in another way.
        """
        return super().aligned_labels(batch)

    def aligned_labels(self, batch: Any) -> Tensor | None:
        """Return `labels`."""
        return self.labels(batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the scaled loss of one micro-batch."""
        return self.scaled_loss(self.learner_losses(batch), batch=batch)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the student's logits for ``batch``, ``(..., V)``."""
        return self(batch)

    def configure_optimizers(self) -> Any:
        """Create the optimizer, with parameter groups for the networks and the objectives."""
        optimizer = make_optimizer(self.optimizer, self.parameter_groups())
        for group in optimizer.param_groups if self.learning_rate is not None else ():
            group["lr"] = self.learning_rate
        return make_optimizer_config(optimizer, self.lr_scheduler, self.lr_scheduler_config)

    def configure_model(self) -> None:
        """Under FSDP2, shard the networks, and the teacher if configured; once."""
        super().configure_model()
        if self.device_mesh is not None:
            for network, _ in self.learners().values():
                divide_head = getattr(self.trainer.strategy, "divide_head", False)
                shard(network, self.device_mesh, divide_head=divide_head)

    def describe_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add a description of the run."""
        checkpoint["kdlight"] = checkpoint_metadata(self.describe_run())
        checkpoint["kdlight"]["rebuilding"] = self.rebuilding

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint fits this run."""
        weights = self.state_dict() if self.strict_loading else None
        check_checkpoint(checkpoint, self.describe_run()["objective"], weights)
        super().on_load_checkpoint(checkpoint)

    # ---- evaluation

    def network_metrics(self) -> dict[str, DistillationMetrics]:
        """Return the metrics of each network by the prefix of their names."""
        return {"": self.metrics}

    def start_evaluation(self) -> None:
        """Check that ranks have equally many batches; make metrics for each further loader."""
        super().start_evaluation()
        check_evaluation_batches(self.trainer)
        first = self.network_metrics()
        self.loader_metrics = {0: first}
        for number in range(1, len(_loader_sizes(self.trainer))):
            self.loader_metrics[number] = {k: deepcopy(each) for k, each in first.items()}
        for by_prefix in self.loader_metrics.values():
            for metrics in by_prefix.values():
                metrics.reset()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Update the metrics of the loader."""
        metrics = self.loader_metrics.get(dataloader_idx, self.network_metrics())
        losses = self.learner_losses(batch)
        for (loss, inputs), each in zip(losses.values(), metrics.values(), strict=True):
            each.update(inputs, loss)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Update the metrics of the loader."""
        self.validation_step(batch, batch_idx, dataloader_idx)

    def log_evaluation(self, stage: str) -> None:
        """Log the metrics as ``val/...``; of several loaders, each with its number at the end."""
        several = len(self.loader_metrics) > 1
        for number, by_prefix in self.loader_metrics.items():
            suffix = f"/dataloader_idx_{number}" if several else ""
            for prefix, metrics in by_prefix.items():
                values = metrics.compute()
                if prefix:  # of other networks, the teacher is one that has metrics itself
                    values = {k: v for k, v in values.items() if not k.startswith("teacher_")}
                self.log_dict(
                    {f"{stage}/{prefix}{name}{suffix}": value for name, value in values.items()},
                    sync_dist=True,
                    add_dataloader_idx=False,
                )


def _loader_sizes(trainer: Any) -> list[Any]:
    """Return the numbers of batches of the loaders that are evaluated."""
    if trainer.state.fn == "test":
        return trainer.num_test_batches
    return trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
