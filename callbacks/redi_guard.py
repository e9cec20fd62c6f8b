"""Watches the likelihood of right traces while a student moves away from wrong ones."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kdlight.callbacks.preference.drop_detector import EMADropDetector
from kdlight.callbacks.preference.frozen_weights import check_weights_move
from kdlight.callbacks.preference.monitors import find_preference_objective, warn_of_blind_monitors
from kdlight.modules import StandaloneModule

Action = Literal["warn", "lower_alpha", "roll_back", "stop"]
LOWERING = ("lower_alpha", "roll_back")
PARTS = ("chosen_sum", "chosen_length", "rejected_sum", "rejected_length")


class REDIGuard(Callback):
    r"""Alarms when the mean log-probability of right traces falls, and acts on it if so chosen.

    A loss that pushes wrong traces down has no lower bound, and nothing overflows on the way: a
    collapse shows in the likelihood of right traces alone, while the loss and the margin improve.
    After every optimizer step this logs ``train/chosen_log_prob`` and ``train/rejected_log_prob``
    (over all tokens of a side), ``train/margin``, ``train/short_rejected`` (share of wrong traces
    so short that their tokens outweigh those of right ones) and ``train/alpha``. The alarm is

    .. math:: \mathrm{EMA}(m_w) < m_w(0) - \mathrm{threshold}

    where :math:`m_w(0)` is the mean over the first ``baseline_steps``. It works with REDI,
    Unlikelihood, DPO and SimPO; ``alpha`` is that of the first two.

    It warns when a ModelCheckpoint or an EarlyStopping listens to the loss or the margin, and
    refuses to train weights that are too coarse for the learning rate, as those of
    ``precision: bf16-true`` are for that of REDI.

    Args:
        threshold: the fall in nats a token. In the authors' figures a benign drift stays below
            0.15, and every collapse passes 0.6.
        action: ``"warn"`` once; ``"lower_alpha"`` continuously, to
            :math:`\alpha\, \mathrm{clip}((m_w - (m_w(0) - d)) / d, 0, 1)` with d the threshold;
            ``"roll_back"`` to the last copy of the weights that was within half the threshold, and
            on with half the alpha and a fresh optimizer; ``"stop"`` the training.
        baseline_steps: optimizer steps that make the baseline.
        decay: memory of the moving average, in [0, 1).
        snapshot_every: optimizer steps between the copies that ``"roll_back"`` keeps, on the CPU.
            The first is made when training starts or is resumed; a checkpoint holds none.

    Raises:
        ValueError: a number outside its range; an objective without right and wrong sequences, or
            without an alpha to lower; weights that would not move.

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
            raise ValueError(f"threshold is a fall in nats, above 0, got {threshold}")
        if action not in ("warn", "lower_alpha", "roll_back", "stop"):
            raise ValueError(f"action must be warn, lower_alpha, roll_back or stop, got {action!r}")
        if snapshot_every < 1:
            raise ValueError(f"snapshot_every must be at least 1, got {snapshot_every}")
        self.threshold, self.action = threshold, action
        self.snapshot_every = snapshot_every
        self.drift = EMADropDetector(first=baseline_steps, decay=decay)
        self.alarms = 0
        self._alpha: float | None = None  # what is lowered from
        self._saved_alpha: float | None = None
        self._snapshot: list[Tensor] = []
        self._candidate: list[Tensor] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the objective, and see that nobody is led by what a collapse improves."""
        self._path, self._objective = find_preference_objective(pl_module)
        if self.action in LOWERING and not hasattr(self._objective, "alpha"):
            raise ValueError(
                f"action={self.action!r} lowers alpha, and {type(self._objective).__name__} has"
                " none; use 'stop' or 'warn'"
            )
        warn_of_blind_monitors(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse weights that would not move; go on with the alpha of a resumed run."""
        check_weights_move(trainer.optimizers)
        if self._alpha is None:
            self._alpha = getattr(self._objective, "alpha", None)
        if self._saved_alpha is not None and self.action in LOWERING:
            self._put(self._saved_alpha)
        if self.action == "roll_back":
            self._snapshot = _copy(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look, once per optimizer step."""
        assert isinstance(pl_module, StandaloneModule)
        step = pl_module.last_step
        if step is None:  # still accumulating gradients
            return
        parts = {name: step.parts[f"{self._path}{name}"] for name in PARTS}
        means = {}
        for side in ("chosen", "rejected"):
            if parts[f"{side}_length"] > 0:
                means[side] = parts[f"{side}_sum"] / parts[f"{side}_length"]
                pl_module.log(f"train/{side}_log_prob", means[side])
        if len(means) == 2:
            pl_module.log("train/margin", means["chosen"] - means["rejected"])
        alpha = getattr(self._objective, "alpha", None)
        if alpha is not None:
            pl_module.log("train/alpha", alpha)
        if "chosen" in means:
            self._look(means["chosen"], trainer, pl_module)

    def _look(self, value: float, trainer: Trainer, module: StandaloneModule) -> None:
        fall = self.drift.add(value)
        if fall is None:
            return
        if self.action == "lower_alpha":
            self._put((self._alpha or 0.0) * min(max(1.0 - fall / self.threshold, 0.0), 1.0))
        elif self.action == "roll_back":
            self._keep(value, trainer, module)
        if fall > self.threshold:
            self._alarm(fall, trainer, module)

    def _keep(self, value: float, trainer: Trainer, module: StandaloneModule) -> None:
        """Copy the weights now and then; a copy counts once they have shown to be fine."""
        assert self.drift.baseline is not None
        if self._candidate is not None and self.drift.baseline - value < self.threshold / 2:
            self._snapshot = self._candidate
        due = trainer.global_step % self.snapshot_every == 0
        self._candidate = _copy(module) if due else None

    def _alarm(self, fall: float, trainer: Trainer, module: StandaloneModule) -> None:
        self.alarms += 1
        said = (
            f"REDIGuard: the log-probability of right traces fell by {fall:.2f} nats a token, from"
            f" {self.drift.baseline:.2f} to {self.drift.average:.2f}, at step {trainer.global_step}"
        )
        if self.action == "stop":
            rank_zero_warn(f"{said}; training stops")
            trainer.should_stop = True
        elif self.action == "roll_back":
            self._roll_back(said, trainer, module)
        elif self.alarms == 1:
            rank_zero_warn(f"{said}; lower the learning rate or alpha")

    @torch.no_grad()
    def _roll_back(self, said: str, trainer: Trainer, module: StandaloneModule) -> None:
        self._alpha = (self._alpha or 0.0) / 2
        self._put(self._alpha)
        self.drift.forget()
        self._candidate = None
        for parameter, saved in zip(module.student.parameters(), self._snapshot, strict=True):
            parameter.copy_(saved.to(parameter.device))
        for optimizer in trainer.optimizers:
            optimizer.state.clear()  # its momentum would go on downhill
        rank_zero_warn(f"{said}; back to the last snapshot, alpha is now {self._alpha:.3f}")

    def _put(self, alpha: float) -> None:
        self._objective.alpha = alpha  # type: ignore[assignment]

    def state_dict(self) -> dict[str, Any]:
        """What has been seen."""
        return {
            "drift": self.drift.state_dict(),
            "alarms": self.alarms,
            "alpha": self._alpha,
            "alpha_now": getattr(self._objective, "alpha", None),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.drift.load_state_dict(state_dict["drift"])
        self.alarms, self._alpha = state_dict["alarms"], state_dict["alpha"]
        self._saved_alpha = state_dict["alpha_now"]


def _copy(module: LightningModule) -> list[Tensor]:
    return [parameter.detach().cpu().clone() for parameter in module.student.parameters()]  # type: ignore[union-attr, operator]
