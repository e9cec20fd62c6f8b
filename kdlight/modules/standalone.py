"""A module that owns its networks: their metrics, optimizer, sharding and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
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

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the scaled loss of one micro-batch."""
        return self.scaled_loss(self.losses(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the student's logits for ``batch``, ``(..., V)``."""
        return self(batch)

    def configure_optimizers(self) -> Any:
        """Create the optimizer, with parameter groups for the networks and the objectives."""
        optimizer = make_optimizer(self.optimizer, self.parameter_groups())
        return make_optimizer_config(optimizer, self.lr_scheduler, self.lr_scheduler_config)

    def configure_model(self) -> None:
        """Under FSDP2, shard the networks, and the teacher if configured; once."""
        super().configure_model()
        if self.device_mesh is not None:
            for network, _ in self.learners().values():
                shard(network, self.device_mesh)

    def on_fit_start(self) -> None:
        """Set train mode: Hugging Face models are created in eval mode, without dropout."""
        super().on_fit_start()
        for network, _ in self.learners().values():
            if not network.training:
                network.train()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add a description of the run."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["kdlight"] = checkpoint_metadata(self.describe_run())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint fits this run."""
        weights = self.state_dict() if self.strict_loading else None
        check_checkpoint(checkpoint, self.describe_run()["objective"], weights)
        super().on_load_checkpoint(checkpoint)

    # ---- evaluation

    def network_metrics(self) -> dict[str, DistillationMetrics]:
        """Return the metrics of each network by the prefix of their names."""
        return {"": self.metrics}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Update the metrics."""
        inputs = self.loss_inputs(batch)
        self.metrics.update(inputs, self.objective(inputs))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Update the metrics."""
        self.validation_step(batch, batch_idx)

    def on_validation_start(self) -> None:
        """Check that ranks which gather weights together have equally many batches."""
        super().on_validation_start()
        check_evaluation_batches(self.trainer)

    def on_test_start(self) -> None:
        """Check that ranks which gather weights together have equally many batches."""
        super().on_test_start()
        check_evaluation_batches(self.trainer)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics as ``val/...``."""
        super().on_validation_epoch_end()
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics as ``test/...``."""
        super().on_test_epoch_end()
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        for prefix, metrics in self.network_metrics().items():
            values = metrics.compute()
            metrics.reset()
            if prefix:  # of other networks, the teacher is one that has metrics itself
                values = {k: v for k, v in values.items() if not k.startswith("teacher_")}
            self.log_dict(
                {f"{stage}/{prefix}{name}": value for name, value in values.items()}, sync_dist=True
            )
