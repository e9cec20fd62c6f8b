"""Objectives: the losses a student is trained with, as modules with hyper-parameters and state.

`OBJECTIVES` maps names to classes, for configs and tests. An objective of your own needs no entry:
use its ``class_path`` in a config, or pass the object in code.
"""

from __future__ import annotations

from typing import Any

from kdlight.objectives.adaptive_kl import AdaptiveKL
from kdlight.objectives.alpha_beta import AlphaBeta
from kdlight.objectives.base import Objective, check_vocabularies
from kdlight.objectives.bdkd import BDKD
from kdlight.objectives.clipping_network import ClippingNetwork
from kdlight.objectives.cross_entropy import CrossEntropy
from kdlight.objectives.dac_kl import DACKL
from kdlight.objectives.decoupled_kl import DecoupledKL
from kdlight.objectives.dpo import DPO
from kdlight.objectives.features.attention_relation import AttentionRelation
from kdlight.objectives.features.attention_transfer import AttentionTransfer
from kdlight.objectives.features.batch_objective import BatchObjective
from kdlight.objectives.features.feature_objective import FeatureObjective
from kdlight.objectives.features.hidden_states import HiddenStates
from kdlight.objectives.features.inter_channel_correlation import InterChannelCorrelation
from kdlight.objectives.features.linear_cka import LinearCKA
from kdlight.objectives.features.relational import Relational
from kdlight.objectives.features.similarity_preserving import SimilarityPreserving
from kdlight.objectives.forward_kl import ForwardKL
from kdlight.objectives.fusion.routed_kd import RoutedKD
from kdlight.objectives.fusion.tgeo_kd import TGeoKD
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.jensen_shannon import JensenShannon
from kdlight.objectives.learnable_temperature import LearnableTemperature
from kdlight.objectives.mean_squared_error import MeanSquaredError
from kdlight.objectives.multi_level_ot import MultiLevelOT
from kdlight.objectives.redi import REDI
from kdlight.objectives.reverse_kl import ReverseKL
from kdlight.objectives.sampled_reverse_kl import SampledReverseKL
from kdlight.objectives.simpo import SimPO
from kdlight.objectives.sinkhorn import Sinkhorn
from kdlight.objectives.sinkhorn_kd import SinkhornKD
from kdlight.objectives.skew_forward_kl import SkewForwardKL
from kdlight.objectives.skew_reverse_kl import SkewReverseKL
from kdlight.objectives.span_kl import SpanKL
from kdlight.objectives.symmetric_kl import SymmetricKL
from kdlight.objectives.taid import TAID
from kdlight.objectives.todi import ToDi
from kdlight.objectives.token_objective import Divergence, TokenObjective
from kdlight.objectives.topk_forward_kl import TopKForwardKL
from kdlight.objectives.topk_reverse_kl import TopKReverseKL
from kdlight.objectives.total_variation import TotalVariation
from kdlight.objectives.uld import ULD
from kdlight.objectives.unlikelihood import Unlikelihood
from kdlight.objectives.weighted import Weighted
from kdlight.reduce import Loss

OBJECTIVES: dict[str, type[Objective]] = {
    "adaptive_kl": AdaptiveKL,
    "alpha_beta": AlphaBeta,
    "attention_relation": AttentionRelation,
    "attention_transfer": AttentionTransfer,
    "bdkd": BDKD,
    "cross_entropy": CrossEntropy,
    "ctkd": LearnableTemperature,
    "dackl": DACKL,
    "decoupled_kl": DecoupledKL,
    "dpo": DPO,
    "forward_kl": ForwardKL,
    "hidden_states": HiddenStates,
    "inter_channel_correlation": InterChannelCorrelation,
    "jensen_shannon": JensenShannon,
    "linear_cka": LinearCKA,
    "mean_squared_error": MeanSquaredError,
    "multi_level_ot": MultiLevelOT,
    "redi": REDI,
    "relational": Relational,
    "reverse_kl": ReverseKL,
    "sampled_reverse_kl": SampledReverseKL,
    "similarity_preserving": SimilarityPreserving,
    "simpo": SimPO,
    "sinkd": SinkhornKD,
    "skew_forward_kl": SkewForwardKL,
    "skew_reverse_kl": SkewReverseKL,
    "symmetric_kl": SymmetricKL,
    "taid": TAID,
    "tgeo_kd": TGeoKD,
    "todi": ToDi,
    "topk_forward_kl": TopKForwardKL,
    "topk_reverse_kl": TopKReverseKL,
    "total_variation": TotalVariation,
    "uld": ULD,
    "unlikelihood": Unlikelihood,
}
"""Objectives by the name of their config, ``configs/NAME.yaml``."""


def build_objective(name: str, **hyper_parameters: Any) -> Objective:
    """Create the objective called ``name`` in `OBJECTIVES`.

    Raises:
        ValueError: no objective has that name; the message lists all names.

    Example:
        >>> build_objective("forward_kl", temperature=2.0).temperature
        2.0
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; known: {', '.join(sorted(OBJECTIVES))}")
    return OBJECTIVES[name](**hyper_parameters)


__all__ = [
    "OBJECTIVES",
    "DACKL",
    "DPO",
    "REDI",
    "ULD",
    "BDKD",
    "AdaptiveKL",
    "AlphaBeta",
    "AttentionRelation",
    "AttentionTransfer",
    "BatchObjective",
    "ClippingNetwork",
    "CrossEntropy",
    "DecoupledKL",
    "Divergence",
    "FeatureObjective",
    "ForwardKL",
    "HiddenStates",
    "InterChannelCorrelation",
    "JensenShannon",
    "LearnableTemperature",
    "LinearCKA",
    "Loss",
    "MeanSquaredError",
    "MultiLevelOT",
    "Objective",
    "Relational",
    "ReverseKL",
    "RoutedKD",
    "SampledReverseKL",
    "SimPO",
    "SimilarityPreserving",
    "Sinkhorn",
    "SinkhornKD",
    "SkewForwardKL",
    "SkewReverseKL",
    "SpanKL",
    "LossInputs",
    "SymmetricKL",
    "TAID",
    "TGeoKD",
    "ToDi",
    "TokenObjective",
    "TopKForwardKL",
    "TopKReverseKL",
    "TotalVariation",
    "Unlikelihood",
    "Weighted",
    "build_objective",
    "check_vocabularies",
]
