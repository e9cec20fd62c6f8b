"""Knowledge distillation for Lightning: objective, teacher and strategy are three independent axes.

Names are imported when they are first used, so that ``import kdlight`` and
``from kdlight import losses`` import neither transformers nor lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlight.lazy import lazy_exports

if TYPE_CHECKING:
    from kdlight import losses as losses
    from kdlight import schedules as schedules
    from kdlight.cache import CachedTeacher as CachedTeacher
    from kdlight.models import CausalLM as CausalLM
    from kdlight.models import LoRACausalLM as LoRACausalLM
    from kdlight.models import MultiLabel as MultiLabel
    from kdlight.models import PrunedCausalLM as PrunedCausalLM
    from kdlight.models import SingleInput as SingleInput
    from kdlight.models import TransformersModel as TransformersModel
    from kdlight.models import prune_layers as prune_layers
    from kdlight.modules import DistillationMixin as DistillationMixin
    from kdlight.modules import DistillationModule as DistillationModule
    from kdlight.modules import GradientNormalizer as GradientNormalizer
    from kdlight.modules import LayerwiseDistillationModule as LayerwiseDistillationModule
    from kdlight.modules import Learner as Learner
    from kdlight.modules import OnlineDistillationModule as OnlineDistillationModule
    from kdlight.objectives import OBJECTIVES as OBJECTIVES
    from kdlight.objectives import LossInputs as LossInputs
    from kdlight.objectives import Objective as Objective
    from kdlight.objectives import TokenObjective as TokenObjective
    from kdlight.objectives import Weighted as Weighted
    from kdlight.ranking import rank_students as rank_students
    from kdlight.reduce import Chunking as Chunking
    from kdlight.reduce import Loss as Loss
    from kdlight.remote import RemoteTeacher as RemoteTeacher
    from kdlight.sources import Dense as Dense
    from kdlight.sources import Projected as Projected
    from kdlight.sources import TopK as TopK
    from kdlight.teachers import FrozenTeacher as FrozenTeacher
    from kdlight.teachers import SelectiveTeacher as SelectiveTeacher
    from kdlight.teachers import Teacher as Teacher
    from kdlight.teachers import TeacherEnsemble as TeacherEnsemble
    from kdlight.vocabulary import AlignedTeacher as AlignedTeacher
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

__version__ = "0.1.0.dev0"
