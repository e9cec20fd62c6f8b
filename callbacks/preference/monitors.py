"""The objective of a module on right and wrong sequences, and who listens to what of it."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from kdlight.objectives import Objective
from kdlight.objectives.paired_preference import PairedPreference
from kdlight.objectives.unpaired_preference import UnpairedPreference

BLIND = ("loss", "margin")
"""What gets better while a model collapses, by a part of its name."""


def find_preference_objective(pl_module: LightningModule) -> tuple[str, Objective]:
    """The one objective of a module on right and wrong sequences, and the prefix of its parts."""
    objective = getattr(pl_module, "objective", None)
    modules = objective.named_modules() if isinstance(objective, Objective) else ()
    found = [
        (path, m) for path, m in modules if isinstance(m, (UnpairedPreference, PairedPreference))
    ]
    if len(found) != 1:
        raise ValueError(
            "REDIGuard watches one objective on right and wrong sequences (REDI, Unlikelihood, DPO"
            f" or SimPO), and {type(objective).__name__} holds {len(found)}"
        )
    path, sides = found[0]
    names = [name for name in path.split(".") if name and name != "terms"]
    return "".join(f"{name}/" for name in names), sides


def warn_of_blind_monitors(trainer: Trainer) -> None:
    """Warn where a checkpoint or an early stop is led by what a collapse improves."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None) or ""
        if isinstance(callback, (ModelCheckpoint, EarlyStopping)) and any(
            word in monitor for word in BLIND
        ):
            rank_zero_warn(
                f"{type(callback).__name__} monitors {monitor!r}, which improves while a model"
                " collapses; let it monitor train/chosen_log_prob (mode max), or an accuracy"
            )
