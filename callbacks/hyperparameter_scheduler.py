"""Moves a number of the objective along a law."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from kdlight.callbacks.adaptive_taid import AdaptiveTAID, find_taid
from kdlight.modules import DistillationBase
from kdlight.objectives import Objective
from kdlight.objectives.hyperparameters import scalar_hyperparameters
from kdlight.schedules import Law


class HyperparameterScheduler(Callback):
    """Moves one number of the objective, such as a temperature or a weight, along a law.

    The number is set before the first step and after every optimizer step (or before every epoch),
    only in training, to ``law(steps done, steps of the run)``. Several ramps may move several
    numbers. Each is logged as ``train/<target>``, with the value that the next step will use, and
    saved with the checkpoint.

    Args:
        target: the number's path under the objective: ``temperature``, ``weights.cross_entropy``
            of a `kdlight.Weighted`, ``terms.taid.t`` of the objective within.
        law: one of `kdlight.schedules`, such as ``Linear(4.0, 1.0)``.
        interval: what the law counts, ``"step"`` (optimizer steps) or ``"epoch"``.

    Raises:
        ValueError: the objective holds no such number; AdaptiveTAID moves it too; the law needs to
            know the number of steps, and the run has none.
        RuntimeError: another HyperparameterScheduler has the same target (by Lightning, when the Trainer is made).

    Example:
        >>> from kdlight.schedules import Cosine
        >>> HyperparameterScheduler("temperature", Cosine(4.0, 1.0)).state_key
        "HyperparameterScheduler{'target': 'temperature'}"
    """

    def __init__(self, target: str, law: Law, interval: Literal["step", "epoch"] = "step") -> None:
        if interval not in ("step", "epoch"):
            raise ValueError(f"interval must be 'step' or 'epoch', got {interval!r}")
        if not isinstance(law, Law):
            raise TypeError(f"law must be one of kdlight.schedules, got {type(law).__name__}")
        self.target, self.law, self.interval = target, law, interval
        self.done = 0

    @property
    def state_key(self) -> str:
        """One state for each number that moves."""
        return self._generate_state_key(target=self.target)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the number before anything starts, and see that nobody else moves it."""
        objective = getattr(pl_module, "objective", None)
        if not isinstance(pl_module, DistillationBase) or not isinstance(objective, Objective):
            raise ValueError(
                "HyperparameterScheduler moves a number of the objective of a DistillationModule or DistillationMixin,"
                f" got {type(pl_module).__name__}"
            )
        numbers = scalar_hyperparameters(objective)
        if self.target not in numbers:
            raise ValueError(
                f"the objective holds no number {self.target!r} to move; there are:"
                f" {', '.join(numbers) or 'none'}"
            )
        self._number = numbers[self.target]
        if any(isinstance(other, AdaptiveTAID) for other in trainer.callbacks):  # type: ignore[attr-defined]
            taid = find_taid(pl_module)[1]
            if taid is not None and self._number.holder is vars(taid) and self._number.key == "t":
                raise ValueError(
                    f"HyperparameterScheduler and AdaptiveTAID both move {self.target!r}; leave one of them"
                )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the number, for whatever looks at it before training."""
        self._move(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the number, also after a resume; FSDP2 restores callbacks after `on_fit_start`."""
        self._move(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the number of a new epoch."""
        if self.interval == "epoch":
            self.done = trainer.current_epoch
            self._move(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the number, if this batch ended an optimizer step."""
        assert isinstance(pl_module, DistillationBase)
        if pl_module.last_step is None:  # still accumulating gradients
            return
        if self.interval == "step":
            self.done = trainer.global_step
            self._move(trainer)
        pl_module.log(f"train/{self.target}", self._number.get())

    def state_dict(self) -> dict[str, Any]:
        """How far the law has come."""
        return {"done": self.done, "law": repr(self.law)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there. The law stays the one this run was given."""
        self.done = state_dict["done"]
        if state_dict["law"] != repr(self.law):
            rank_zero_info(
                f"HyperparameterScheduler: the checkpoint moved {self.target} along {state_dict['law']}; this run goes"
                f" on along {self.law!r}"
            )

    def _move(self, trainer: Trainer) -> None:
        in_steps = self.interval == "step"
        total = trainer.estimated_stepping_batches if in_steps else trainer.max_epochs
        self._number.set(self.law(self.done, inf if total is None or total < 0 else total))
