"""TAID's adaptive schedule: moves ``t`` once per optimizer step, by the loss of all ranks."""

from __future__ import annotations

from math import isinf
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from kdlight.modules import DistillationBase
from kdlight.objectives import TAID, Objective
from kdlight.schedules import TAIDState, check_taid, taid_step


class AdaptiveTAID(Callback):
    """Moves the ``t`` of a `kdlight.objectives.TAID` from ``t_start`` to ``t_end``.

    The law is `kdlight.schedules.taid_step`. It acts once per optimizer step whatever the
    accumulation, on the loss of the whole step reduced over ranks, and only in training: neither
    validation nor the sanity check moves ``t``. A step in which no position counted, or whose loss
    is not finite, leaves it alone. Its state and hyper-parameters are saved with the checkpoint.

    Args:
        t_start: where t starts, in [0, 1).
        t_end: where it ends, in (t_start, 1].
        alpha: size of an adaptive step. In runs of fewer than ``2 / alpha`` steps the linear
            floor always leads, and adaptation does nothing; the log says so.
        beta: memory of the momentum.
        adaptive: False follows the linear floor alone.
        signal: the loss that the schedule listens to, the objective's own KL or the cross-entropy
            with the target, as in the authors' code.

    With an objective that holds no TAID it stays idle and says so, so that a config's objective
    can be exchanged on the command line.

    Raises:
        ValueError: a number outside its range; several TAIDs in the objective; a run whose number
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
    ) -> None:
        check_taid(t_start=t_start, t_end=t_end, alpha=alpha, beta=beta)
        if signal not in ("kl", "cross_entropy"):
            raise ValueError(f"signal must be 'kl' or 'cross_entropy', got {signal!r}")
        self.law = {
            "t_start": t_start,
            "t_end": t_end,
            "alpha": alpha,
            "beta": beta,
            "adaptive": adaptive,
        }
        self.signal = signal
        self.state = TAIDState(t=t_start)
        self._steps = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the objective before anything starts."""
        self._name, self._objective = find_taid(pl_module)
        if self._objective is None:
            rank_zero_warn("AdaptiveTAID stays idle: the objective holds no TAID, so no t to move")
        else:
            self._objective.log_cross_entropy |= self.signal == "cross_entropy"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the objective where the schedule stands, also after a resume."""
        if self._objective is not None:
            self._objective.t = self.state.t

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask how long the run is."""
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
                " floor; raise alpha to let the loss lead"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move t, if this batch ended an optimizer step."""
        assert isinstance(pl_module, DistillationBase)
        step = pl_module.last_step
        if step is None or self._objective is None:  # still accumulating gradients, or idle
            return
        if step.count > 0:
            loss = self._listen(step.loss, step.parts)
            progress = (trainer.global_step - 1) / self._steps
            self.state = taid_step(self.state, loss, progress, **self.law)
            self._objective.t = self.state.t
        pl_module.log("train/t", self.state.t, prog_bar=True)

    def _listen(self, loss: float, parts: dict[str, float]) -> float:
        if self.signal == "cross_entropy":
            return parts["/".join(filter(None, (self._name, "cross_entropy")))]
        return parts[self._name] if self._name else loss

    def state_dict(self) -> dict[str, Any]:
        """The schedule's state, and the law it follows."""
        return {"state": self.state._asdict(), "law": self.law, "signal": self.signal}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state back. The law stays the one this run was given."""
        self.state = TAIDState(**state_dict["state"])
        if state_dict["law"] != self.law:
            rank_zero_info(
                f"AdaptiveTAID: the checkpoint was made under {state_dict['law']}; this run goes"
                f" on from its t = {self.state.t:.4f} under {self.law}"
            )


def find_taid(pl_module: LightningModule) -> tuple[str, TAID | None]:
    """The one TAID of a module's objective, if any, and the name its value is logged under."""
    objective = getattr(pl_module, "objective", None)
    if not isinstance(objective, Objective):
        raise ValueError(f"{type(pl_module).__name__} has no objective for AdaptiveTAID to move")
    found = [(path, m) for path, m in objective.named_modules() if isinstance(m, TAID)]
    if len(found) > 1:
        raise ValueError(
            f"AdaptiveTAID moves the t of one TAID objective, but {type(objective).__name__} holds"
            f" {len(found)}; leave one of them"
        )
    if not found:
        return "", None
    path, taid = found[0]
    return "/".join(name for name in path.split(".") if name and name != "terms"), taid
