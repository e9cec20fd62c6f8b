"""Objectives: what a student is trained on, as modules with their hyper-parameters and state.

`OBJECTIVES` names them for configs and tests. An objective of your own needs no entry: give its
``class_path`` in a config, or the object in code.
"""

from __future__ import annotations

from typing import Any

from kdlight.objectives.adaptive_kl import AdaptiveKL
from kdlight.objectives.alpha_beta import AlphaBeta
from kdlight.objectives.base import Objective, Step, TokenObjective, check_vocabularies
from kdlight.objectives.cross_entropy import CrossEntropy
from kdlight.objectives.decoupled_kl import DecoupledKL
from kdlight.objectives.divergence import Divergence
from kdlight.objectives.forward_kl import ForwardKL
from kdlight.objectives.jensen_shannon import JensenShannon
from kdlight.objectives.learnable_temperature import LearnableTemperature
from kdlight.objectives.reverse_kl import ReverseKL
from kdlight.objectives.skew_forward_kl import SkewForwardKL
from kdlight.objectives.skew_reverse_kl import SkewReverseKL
from kdlight.objectives.symmetric_kl import SymmetricKL
from kdlight.objectives.taid import TAID
from kdlight.objectives.todi import ToDi
from kdlight.objectives.total_variation import TotalVariation
from kdlight.objectives.weighted import Weighted
from kdlight.reduce import Loss

OBJECTIVES: dict[str, type[Objective]] = {
    "adaptive_kl": AdaptiveKL,
    "alpha_beta": AlphaBeta,
    "cross_entropy": CrossEntropy,
    "ctkd": LearnableTemperature,
    "decoupled_kl": DecoupledKL,
    "forward_kl": ForwardKL,
    "jensen_shannon": JensenShannon,
    "reverse_kl": ReverseKL,
    "skew_forward_kl": SkewForwardKL,
    "skew_reverse_kl": SkewReverseKL,
    "symmetric_kl": SymmetricKL,
    "taid": TAID,
    "todi": ToDi,
    "total_variation": TotalVariation,
}


def build_objective(name: str, **hyper_parameters: Any) -> Objective:
    """The objective called ``name`` in `OBJECTIVES`.

    Raises:
        ValueError: no objective has that name; the message lists those there are.

    Example:
        >>> build_objective("forward_kl", temperature=2.0).temperature
        2.0
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; known: {', '.join(sorted(OBJECTIVES))}")
    return OBJECTIVES[name](**hyper_parameters)


__all__ = [
    "OBJECTIVES",
    "AdaptiveKL",
    "AlphaBeta",
    "CrossEntropy",
    "DecoupledKL",
    "Divergence",
    "ForwardKL",
    "JensenShannon",
    "LearnableTemperature",
    "Loss",
    "Objective",
    "ReverseKL",
    "SkewForwardKL",
    "SkewReverseKL",
    "Step",
    "SymmetricKL",
    "TAID",
    "ToDi",
    "TokenObjective",
    "TotalVariation",
    "Weighted",
    "build_objective",
    "check_vocabularies",
]
