"""Monitor the likelihood of chosen sequences while a student is trained on rejected ones."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from kdlight.callbacks.preference.drop_detector import EMADropDetector
from kdlight.callbacks.preference.find_objective import find_preference_objective
from kdlight.callbacks.preference.frozen_weights import check_weights_move
from kdlight.callbacks.preference.monitored_metrics import warn_of_misleading_monitors
from kdlight.callbacks.preference.snapshots import WeightSnapshots
from kdlight.modules import DistillationBase

Action = Literal["warn", "lower_alpha", "roll_back", "stop"]
LOWERING = ("lower_alpha", "roll_back")
PARTS = ("chosen_sum", "chosen_length", "rejected_sum", "rejected_length")


class REDIGuard(Callback):
    r"""Detects a drop in the mean log-probability of chosen sequences, and acts on it.

    A loss that lowers the likelihood of rejected sequences has no lower bound, and a collapse
    causes no overflow. It shows only in the likelihood of the chosen sequences, while the loss and
    the margin improve. After every optimizer step this callback logs ``train/chosen_log_prob`` and
    ``train/rejected_log_prob`` (means over all tokens of these sequences), ``train/margin`` and
    ``train/alpha``. The objective logs ``train/short_rejected`` (share of rejected sequences so
    short that their tokens have more weight than those of chosen ones). The alarm is

    .. math:: \mathrm{EMA}(m_w) < m_w(0) - \mathrm{threshold}

    where :math:`m_w(0)` is the mean over the first ``baseline_steps``. It works with REDI,
    Unlikelihood, DPO and SimPO; only the first two have an ``alpha``.

    It warns if a ModelCheckpoint or an EarlyStopping monitors the loss or the margin. It refuses
    weights that are too coarse for the learning rate, as those of ``precision: bf16-true`` are for
    that of REDI.

    Args:
        threshold: the drop in nats per token. In the authors' figures a benign drift stays below
            0.15, and every collapse exceeds 0.6.
        action: ``"warn"`` warns once. ``"lower_alpha"`` sets alpha after every step, to
            :math:`\alpha\, \mathrm{clip}((m_w - (m_w(0) - d)) / d, 0, 1)` with d the threshold.
            ``"roll_back"`` restores the last copy of the weights that was within half the
            threshold, halves alpha, and resets the optimizer. ``"stop"`` stops the training.
        baseline_steps: number of optimizer steps of the baseline.
        decay: decay of the moving average, in [0, 1).
        snapshot_every: number of optimizer steps between the copies of ``"roll_back"``, which are
            kept on the CPU. The first is made when training starts or is resumed; checkpoints hold
            none.

    Raises:
        ValueError: A number outside its range; an objective without chosen and rejected sequences,
            or without an alpha to lower; weights that updates would not change.

    Example:
        >>> REDIGuard(threshold=0.3, action="stop").threshold
        0.3
    """

    def __init__(
        self,
        threshold: float = 0.4,
        action: Action = "warn",
        baseline_steps: int = 5,
        decay: float = 0.9,
        snapshot_every: int = 50,
    ) -> None:
        if not threshold > 0:
            raise ValueError(f"threshold must be a drop in nats above 0, got {threshold}")
        if action not in ("warn", "lower_alpha", "roll_back", "stop"):
            raise ValueError(f"action must be warn, lower_alpha, roll_back or stop, got {action!r}")
        if snapshot_every < 1:
            raise ValueError(f"snapshot_every must be at least 1, got {snapshot_every}")
        self.threshold, self.action = threshold, action
        self.snapshot_every = snapshot_every
        self.drift = EMADropDetector(first=baseline_steps, decay=decay)
        self.alarms = 0
        self._alpha: float | None = None  # the value that is lowered
        self._saved_alpha: float | None = None
        self._snapshots: WeightSnapshots | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the objective, and check what ModelCheckpoint and EarlyStopping monitor."""
        self._prefix, self._objective = find_preference_objective(pl_module)
        if not isinstance(pl_module, DistillationBase):
            raise ValueError(
                "REDIGuard needs a DistillationModule, an OnlineDistillationModule or a module with"
                f" DistillationMixin, got {type(pl_module).__name__}"
            )
        if self.action in LOWERING and not hasattr(self._objective, "alpha"):
            raise ValueError(
                f"action={self.action!r} lowers alpha, but {type(self._objective).__name__} has"
                " none; use 'stop' or 'warn'"
            )
        warn_of_misleading_monitors(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that updates change the weights, and restore the alpha of a resumed run."""
        check_weights_move(trainer.optimizers)
        if self._alpha is None:
            self._alpha = getattr(self._objective, "alpha", None)
        if self._saved_alpha is not None and self.action in LOWERING:
            self._set_alpha(self._saved_alpha)
        if self.action == "roll_back":
            self._snapshots = WeightSnapshots(_student(pl_module).parameters())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the log-probabilities of an optimizer step, and act on a drop."""
        assert isinstance(pl_module, DistillationBase)
        step = pl_module.last_step
        if step is None or step.skipped:  # still accumulating gradients, or nothing was changed
            return
        parts = {name: step.parts[f"{self._prefix}{name}"] for name in PARTS}
        means = {}
        for kind in ("chosen", "rejected"):
            if parts[f"{kind}_length"] > 0:
                means[kind] = parts[f"{kind}_sum"] / parts[f"{kind}_length"]
                pl_module.log(f"train/{kind}_log_prob", means[kind])
        if len(means) == 2:
            pl_module.log("train/margin", means["chosen"] - means["rejected"])
        alpha = getattr(self._objective, "alpha", None)
        if alpha is not None:
            pl_module.log("train/alpha", alpha)
        if "chosen" in means:
            self._act(means["chosen"], trainer, pl_module)

    def _act(self, log_prob: float, trainer: Trainer, module: LightningModule) -> None:
        drop = self.drift.add(log_prob)
        if drop is None:
            return
        if self.action == "lower_alpha":
            self._set_alpha((self._alpha or 0.0) * min(max(1.0 - drop / self.threshold, 0.0), 1.0))
        elif self.action == "roll_back":
            self._update_snapshots(log_prob, trainer, module)
        if drop > self.threshold:
            self._alarm(drop, trainer, module)

    def _update_snapshots(self, log_prob: float, trainer: Trainer, module: LightningModule) -> None:
        """Copy the weights every few steps; the next step shows whether the copy is good."""
        assert self.drift.baseline is not None
        assert self._snapshots is not None
        self._snapshots.confirm(self.drift.baseline - log_prob < self.threshold / 2)
        if trainer.global_step % self.snapshot_every == 0:
            self._snapshots.add(_student(module).parameters())

    def _alarm(self, drop: float, trainer: Trainer, module: LightningModule) -> None:
        self.alarms += 1
        message = (
            f"REDIGuard: the log-probability of chosen sequences dropped by {drop:.2f} nats per"
            f" token, from {self.drift.baseline:.2f} to {self.drift.average:.2f}, at step"
            f" {trainer.global_step}"
        )
        if self.action == "stop":
            rank_zero_warn(f"{message}; training stops")
            trainer.should_stop = True
        elif self.action == "roll_back":
            self._roll_back(trainer, module)
            rank_zero_warn(f"{message}; weights are restored, and alpha is now {self._alpha:.3f}")
        elif self.alarms == 1:
            rank_zero_warn(f"{message}; lower the learning rate or alpha")

    def _roll_back(self, trainer: Trainer, module: LightningModule) -> None:
        assert self._snapshots is not None
        self._alpha = (self._alpha or 0.0) / 2
        self._set_alpha(self._alpha)
        self.drift.reset_average()
        self._snapshots.restore(_student(module).parameters())
        for optimizer in trainer.optimizers:
            optimizer.state.clear()  # its momentum leads to the weights that were left

    def _set_alpha(self, alpha: float) -> None:
        self._objective.alpha = alpha  # type: ignore[assignment]

    def state_dict(self) -> dict[str, Any]:
        """Return the log-probabilities so far, the number of alarms and alpha."""
        return {
            "drift": self.drift.state_dict(),
            "alarms": self.alarms,
            "alpha": self._alpha,
            "alpha_now": getattr(self._objective, "alpha", None),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the log-probabilities, the number of alarms and alpha."""
        self.drift.load_state_dict(state_dict["drift"])
        self.alarms, self._alpha = state_dict["alarms"], state_dict["alpha"]
        self._saved_alpha = state_dict["alpha_now"]


def _student(module: LightningModule) -> nn.Module:
    assert isinstance(module, DistillationBase)
    network, _ = module.learners()["student"]
    return network
