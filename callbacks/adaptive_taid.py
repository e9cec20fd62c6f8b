"""TAID's adaptive schedule of ``t``."""

from __future__ import annotations

from math import isinf
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from kdlight.modules import DistillationBase
from kdlight.objectives import TAID, Objective
from kdlight.schedules import TAIDState, check_taid, taid_step
from kdlight.schedules.taid import LARGEST_RISE, relative_rise


class AdaptiveTAID(Callback):
    """Schedules the ``t`` of a `kdlight.objectives.TAID` from ``t_start`` to ``t_end``.

    The schedule is `kdlight.schedules.taid_step`. It is updated once per optimizer step, with the
    loss of the whole step reduced over micro-batches and ranks. Validation and the sanity check do
    not change ``t``. Neither does a step without a valid position, one whose loss is not finite, or
    one that mixed precision skips. Logged are ``train/t``, and ``train/t_rise_limited``: 1 in a
    step whose rise of the loss was larger than ``largest_rise``, else 0. State and hyper-parameters
    are saved with checkpoints.

    Args:
        t_start: first value of t, in [0, 1).
        t_end: last value of t, in (t_start, 1].
        alpha: size of an adaptive step. In a run of fewer than ``2 / alpha`` steps the linear lower
            bound is always larger, and adaptation has no effect; this is logged.
        beta: decay of the momentum.
        adaptive: False follows the linear lower bound only.
        signal: the loss that updates the schedule: the KL of the objective, or the cross-entropy
            with the target, as in the authors' code.
        largest_rise: a relative increase of the loss in one step counts as at most this; infinity
            for no limit, as published.

    If the objective has no TAID, the callback warns and does nothing, so the objective of a config
    can be replaced on the command line.

    Raises:
        ValueError: A number outside its range; an objective with several TAIDs; a run whose number
            of steps is unknown.

    Example:
        >>> AdaptiveTAID(t_start=0.2).state.t
        0.2
    """

    def __init__(
        self,
        t_start: float = 0.4,
        t_end: float = 1.0,
        alpha: float = 5e-4,
        beta: float = 0.99,
        adaptive: bool = True,
        signal: Literal["kl", "cross_entropy"] = "kl",
        largest_rise: float = LARGEST_RISE,
    ) -> None:
        check_taid(t_start=t_start, t_end=t_end, alpha=alpha, beta=beta, largest_rise=largest_rise)
        if signal not in ("kl", "cross_entropy"):
            raise ValueError(f"signal must be 'kl' or 'cross_entropy', got {signal!r}")
        self.law = {
            "t_start": t_start,
            "t_end": t_end,
            "alpha": alpha,
            "beta": beta,
            "adaptive": adaptive,
            "largest_rise": largest_rise,
        }
        self.signal = signal
        self.state = TAIDState(t=t_start)
        self.skipped = 0  # optimizer steps of the trainer that mixed precision left out
        self._steps = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the TAID objective of the module."""
        self._name, self._objective = find_taid(pl_module)
        if self._objective is None:
            rank_zero_warn("AdaptiveTAID has no effect: the objective has no TAID to schedule")
        else:
            self._objective.log_cross_entropy |= self.signal == "cross_entropy"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set t of the objective, also after a resume."""
        if self._objective is not None:
            self._objective.t = self.state.t

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the number of optimizer steps is known."""
        if self._objective is None:
            return
        self._steps = trainer.estimated_stepping_batches
        if isinf(self._steps) or self._steps <= 0:
            raise ValueError(
                f"AdaptiveTAID needs to know the number of optimizer steps, but the run has"
                f" {self._steps}; set trainer.max_steps or trainer.max_epochs (and max_steps where"
                " the training data has no length)"
            )
        alpha = self.law["alpha"]
        if self.law["adaptive"] and alpha * self._steps < 2:
            rank_zero_info(
                f"AdaptiveTAID: this run has {self._steps:.0f} optimizer steps, fewer than 2 /"
                f" alpha = {2 / alpha if alpha else float('inf'):.0f}, so t follows the linear"
                " lower bound; raise alpha for adaptation to have an effect"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update t after an optimizer step."""
        assert isinstance(pl_module, DistillationBase)
        step = pl_module.last_step
        if step is None or self._objective is None:  # gradients are still being accumulated
            return
        limited = False
        if step.skipped:
            self.skipped += 1
        elif step.count > 0:
            loss = self._signal(step.loss, step.parts)
            limited = relative_rise(self.state, loss) > self.law["largest_rise"]
            progress = (trainer.global_step - self.skipped - 1) / self._steps
            self.state = taid_step(self.state, loss, progress, **self.law)
            self._objective.t = self.state.t
        pl_module.log("train/t", self.state.t, prog_bar=True)
        pl_module.log("train/t_rise_limited", float(limited))

    def _signal(self, loss: float, parts: dict[str, float]) -> float:
        if self.signal == "cross_entropy":
            return parts["/".join(filter(None, (self._name, "cross_entropy")))]
        return parts[self._name] if self._name else loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state and the hyper-parameters of the schedule."""
        return {
            "state": self.state._asdict(),
            "law": self.law,
            "signal": self.signal,
            "skipped": self.skipped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; the hyper-parameters remain those of this run."""
        self.state = TAIDState(**state_dict["state"])
        self.skipped = state_dict.get("skipped", 0)
        # checkpoints of before there was the limit have none
        if {"largest_rise": LARGEST_RISE, **state_dict["law"]} != self.law:
            rank_zero_info(
                f"AdaptiveTAID: the checkpoint was made with {state_dict['law']}; this run"
                f" continues from its t = {self.state.t:.4f} with {self.law}"
            )


def find_taid(pl_module: LightningModule) -> tuple[str, TAID | None]:
    """Return the name that the TAID of a module's objective is logged under, and the TAID or None.

    Raises:
        ValueError: The module has no objective, or its objective holds several TAIDs.
    """
    objective = getattr(pl_module, "objective", None)
    if not isinstance(objective, Objective):
        raise ValueError(
            f"AdaptiveTAID needs an objective, but {type(pl_module).__name__} has none"
        )
    found = [(path, m) for path, m in objective.named_modules() if isinstance(m, TAID)]
    if len(found) > 1:
        raise ValueError(
            f"AdaptiveTAID schedules the t of one TAID objective, but {type(objective).__name__}"
            f" holds {len(found)}; remove all but one"
        )
    if not found:
        return "", None
    path, taid = found[0]
    return "/".join(name for name in path.split(".") if name and name != "terms"), taid
