"""Schedule a hyper-parameter of the objective."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from kdlight.callbacks.adaptive_taid import AdaptiveTAID, find_taid
from kdlight.checks import check_instance
from kdlight.modules import DistillationBase
from kdlight.objectives import Objective
from kdlight.objectives.hyperparameters import scalar_hyperparameters
from kdlight.schedules import Schedule


class HyperparameterScheduler(Callback):
    """Sets a hyper-parameter of the objective, such as a temperature or a weight, by a schedule.

    The value is ``schedule(completed steps, steps of the run)``. It is set before the first step
    and after every optimizer step (or before every epoch), in training only. Several callbacks may
    schedule several hyper-parameters. The value that the next step uses is logged as
    ``train/<target>``. The progress is saved with checkpoints.

    Args:
        target: path of the hyper-parameter under the objective: ``temperature``,
            ``weights.cross_entropy`` of a `kdlight.Weighted`, ``terms.taid.t`` of a term of it.
        schedule: one of `kdlight.schedules`, such as ``Linear(4.0, 1.0)``.
        interval: what the schedule counts, ``"step"`` (optimizer steps) or ``"epoch"``.

    Raises:
        ValueError: The objective has no such hyper-parameter; AdaptiveTAID schedules it, too; the
            schedule needs the number of steps, and that of the run is unknown.
        TypeError: ``schedule`` is not a schedule.
        RuntimeError: Another HyperparameterScheduler has the same target (raised by Lightning when
            the Trainer is created).

    Example:
        >>> from kdlight.schedules import Cosine
        >>> HyperparameterScheduler("temperature", Cosine(4.0, 1.0)).state_key
        "HyperparameterScheduler{'target': 'temperature'}"
    """

    def __init__(
        self, target: str, schedule: Schedule, interval: Literal["step", "epoch"] = "step"
    ) -> None:
        if interval not in ("step", "epoch"):
            raise ValueError(f"interval must be 'step' or 'epoch', got {interval!r}")
        check_instance("schedule", schedule, Schedule)
        self.target, self.schedule, self.interval = target, schedule, interval
        self.done = 0
        self.skipped = 0  # optimizer steps of the trainer that mixed precision left out

    @property
    def state_key(self) -> str:
        """The key of the state in checkpoints, one for each target."""
        return self._generate_state_key(target=self.target)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the hyper-parameter, and check that no AdaptiveTAID schedules it."""
        objective = getattr(pl_module, "objective", None)
        if not isinstance(pl_module, DistillationBase) or not isinstance(objective, Objective):
            raise ValueError(
                "HyperparameterScheduler needs a DistillationModule, an OnlineDistillationModule or"
                f" a module with DistillationMixin, got {type(pl_module).__name__}"
            )
        scalars = scalar_hyperparameters(objective)
        if self.target not in scalars:
            raise ValueError(
                f"the objective has no hyper-parameter {self.target!r}; target must be one of:"
                f" {', '.join(scalars) or 'none'}"
            )
        self._scalar = scalars[self.target]
        if any(isinstance(other, AdaptiveTAID) for other in trainer.callbacks):  # type: ignore[attr-defined]
            taid = find_taid(pl_module)[1]
            if taid is not None and self._scalar.holder is vars(taid) and self._scalar.key == "t":
                raise ValueError(
                    f"HyperparameterScheduler and AdaptiveTAID both schedule {self.target!r};"
                    " remove one of them"
                )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the value before the sanity check."""
        self._update(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the value after a resume; FSDP2 restores callbacks after `on_fit_start`."""
        self._update(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the value of a new epoch."""
        if self.interval == "epoch":
            self.done = trainer.current_epoch
            self._update(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the value after an optimizer step, and log it."""
        assert isinstance(pl_module, DistillationBase)
        if pl_module.last_step is None:  # gradients are still being accumulated
            return
        self.skipped += pl_module.last_step.skipped
        if self.interval == "step":
            self.done = trainer.global_step - self.skipped
            self._update(trainer)
        pl_module.log(f"train/{self.target}", self._scalar.get())

    def state_dict(self) -> dict[str, Any]:
        """Return the progress of the schedule."""
        return {"done": self.done, "schedule": repr(self.schedule), "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the progress; the schedule remains that of this run."""
        self.done, self.skipped = state_dict["done"], state_dict.get("skipped", 0)
        if state_dict["schedule"] != repr(self.schedule):
            rank_zero_info(
                f"HyperparameterScheduler: the checkpoint scheduled {self.target} by"
                f" {state_dict['schedule']}; this run continues by {self.schedule!r}"
            )

    def _update(self, trainer: Trainer) -> None:
        in_steps = self.interval == "step"
        total = trainer.estimated_stepping_batches if in_steps else trainer.max_epochs
        self._scalar.set(self.schedule(self.done, inf if total is None or total < 0 else total))
