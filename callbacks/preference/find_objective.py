"""Find the preference objective of a module."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from kdlight.objectives import Objective
from kdlight.objectives.paired_preference import PairedPreference
from kdlight.objectives.unpaired_preference import UnpairedPreference


def find_preference_objective(pl_module: LightningModule) -> tuple[str, Objective]:
    """Return the preference objective of a module, after the prefix of its logged parts.

    Raises:
        ValueError: The objective of the module holds no preference objective, or several.
    """
    objective = getattr(pl_module, "objective", None)
    modules = objective.named_modules() if isinstance(objective, Objective) else ()
    found = [
        (path, m) for path, m in modules if isinstance(m, (UnpairedPreference, PairedPreference))
    ]
    if len(found) != 1:
        raise ValueError(
            "REDIGuard needs one objective on chosen and rejected sequences (REDI, Unlikelihood,"
            f" DPO or SimPO), but {type(objective).__name__} holds {len(found)}"
        )
    path, preference = found[0]
    names = [name for name in path.split(".") if name and name != "terms"]
    return "".join(f"{name}/" for name in names), preference
