"""Knowledge distillation for Lightning: objective, teacher and strategy are three independent axes.

Names resolve when they are first asked for, so that ``import kdlight`` and
``from kdlight import losses`` load neither transformers nor lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdlight import losses, schedules
    from kdlight.cache import CachedTeacher
    from kdlight.logits import Dense, Projected
    from kdlight.models import CausalLM, CutCausalLM, LoRACausalLM, Plain, cut_layers
    from kdlight.modules import (
        DistillationMixin,
        DistillationModule,
        Learner,
        OnlineDistillationModule,
    )
    from kdlight.objectives import OBJECTIVES, Loss, Objective, Step, TokenObjective, Weighted
    from kdlight.reduce import Chunking
    from kdlight.teachers import FrozenTeacher, SelectiveTeacher, TeacherPool
    from kdlight.topk import TopK
    from kdlight.vocabulary import AlignedTeacher

__version__ = "0.1.0.dev0"

__all__ = [
    "OBJECTIVES",
    "AlignedTeacher",
    "CachedTeacher",
    "CausalLM",
    "Chunking",
    "CutCausalLM",
    "Dense",
    "DistillationMixin",
    "DistillationModule",
    "FrozenTeacher",
    "Learner",
    "LoRACausalLM",
    "Loss",
    "Objective",
    "OnlineDistillationModule",
    "Plain",
    "Projected",
    "SelectiveTeacher",
    "Step",
    "TeacherPool",
    "TokenObjective",
    "TopK",
    "Weighted",
    "cut_layers",
    "losses",
    "schedules",
]

_ROOMS = {"losses", "schedules"}
_HOME = {
    "Dense": "logits",
    "Projected": "logits",
    "OBJECTIVES": "objectives",
    "Loss": "objectives",
    "Objective": "objectives",
    "Step": "objectives",
    "TokenObjective": "objectives",
    "Weighted": "objectives",
    "AlignedTeacher": "vocabulary",
    "CachedTeacher": "cache",
    "Chunking": "reduce",
    "FrozenTeacher": "teachers",
    "SelectiveTeacher": "teachers",
    "TeacherPool": "teachers",
    "TopK": "topk",
    "CausalLM": "models",
    "CutCausalLM": "models",
    "LoRACausalLM": "models",
    "Plain": "models",
    "cut_layers": "models",
    "DistillationMixin": "modules",
    "DistillationModule": "modules",
    "Learner": "modules",
    "OnlineDistillationModule": "modules",
}


if not TYPE_CHECKING:  # a type checker shall know the names imported above, and no others

    def __getattr__(name: str) -> object:
        if name in _ROOMS:
            return import_module(f"kdlight.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'kdlight' has no attribute {name!r}")
        value = getattr(import_module(f"kdlight.{_HOME[name]}"), name)
        globals()[name] = value  # the next access does not come here again
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
