"""The hooks of a distillation step, which run whatever hooks a subclass overrides."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from kdlight.modules.server_errors import save_after_server_error


class StepHooks(Callback):
    """Calls the step driver of a distillation module at each point of a run.

    Hooks of Lightning do nothing by default, so that subclasses override them without ``super()``.
    What must happen in a step is therefore done by a callback. It is the first one of the trainer:
    other callbacks find normalized gradients and logged values of the same step.

    A `kdlight.modules.DistillationBase` adds it to the trainer that it is attached to.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> from torch import nn
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> module = DistillationModule(SingleInput(nn.Linear(4, 3)), CrossEntropy())
        >>> module.trainer = trainer
        >>> type(trainer.callbacks[0]).__name__
        'StepHooks'
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the run, and forget what an interrupted fit left behind."""
        _call(pl_module, "start_fit")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with the same objectives on all ranks."""
        _call(pl_module, "start_training")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that all ranks have equally many batches."""
        _call(pl_module, "start_training_epoch")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Forget the result of the last step, and look at the first batch."""
        _call(pl_module, "start_batch", batch)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check that the loss is the one that was scaled."""
        _call(pl_module, "check_loss", loss)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Normalize the gradients."""
        _call(pl_module, "finish_step")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the result of the step."""
        _call(pl_module, "log_step")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last step."""
        _call(pl_module, "clear")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the evaluation."""
        _call(pl_module, "start_evaluation")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics."""
        _call(pl_module, "log_metrics", "val")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the time of validation out of the training speed."""
        _call(pl_module, "restart_clock")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the evaluation."""
        _call(pl_module, "start_evaluation")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics."""
        _call(pl_module, "log_metrics", "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the run."""
        _call(pl_module, "prepare")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the state of the step, even if the module's own hook is overridden."""
        _call(pl_module, "save_state", checkpoint)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Load the state of the step."""
        _call(pl_module, "load_state", checkpoint)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Forget an unfinished step; save a checkpoint where a teacher's server does not answer."""
        _call(pl_module, "clear")
        if getattr(pl_module, "step_driver", None) is not None:
            save_after_server_error(trainer, exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Free the memory of the teacher."""
        _call(pl_module, "finish_run")


def attach_step_hooks(trainer: Any, *, first: bool = True) -> None:
    """Add the hooks to the callbacks of ``trainer``, once.

    Args:
        trainer: a trainer; anything else is left alone.
        first: before all other callbacks.

    Example:
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> for _ in range(2):
        ...     attach_step_hooks(trainer)
        >>> sum(isinstance(each, StepHooks) for each in trainer.callbacks)
        1
    """
    callbacks = getattr(trainer, "callbacks", None)  # Fabric has none
    if isinstance(callbacks, list) and not any(isinstance(each, StepHooks) for each in callbacks):
        callbacks.insert(0 if first else len(callbacks), StepHooks())


def _call(module: LightningModule, method: str, *arguments: Any) -> None:
    # a trainer may run other modules after the one that added the callback
    driver = getattr(module, "step_driver", None)
    if driver is not None:
        getattr(driver, method)(module, *arguments)
