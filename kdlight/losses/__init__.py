"""Losses: pure functions from logits to per-token values.

A loss maps the logits of student and teacher to one value per token, (..., V), (..., V) -> (...).
Values are in float32 or wider, unreduced, and without a factor T^2. Positions must already be
aligned. The losses on features, tensors from inside of both networks, give one value per row, per
sample or per batch.

Impossible tokens: a logit of -inf, or of the lowest float, which padded vocabularies use, is a
probability of 0. One rule holds for all losses, and for the objectives that are made of them:

- Columns at -inf on both sides are outside the vocabulary: value and gradient are those without
  them.
- Where one side alone has a logit of -inf, the value is that of the formula. It is +inf in
  `forward_kl` where the student alone forbids a token, in `reverse_kl` where the teacher alone
  does, and in either case in losses that have both terms (`symmetric_kl`, `balanced_kl`,
  `adaptive_kl`, `todi`), unless the weight of the infinite term is 0. It is finite in losses that
  compare with a mixture (`jensen_shannon`, `skew_forward_kl` and `skew_reverse_kl`, except for the
  settings that are forward or reverse KL), in `total_variation`, in `taid` with t below 1, and in
  `alpha_beta` with positive exponents.
- The gradient is always finite. Finite slopes are exact, such as q - p of `forward_kl`. An infinite
  slope counts 0: in reverse KL, log(q/p) of a token that the teacher forbids is 0, as if both sides
  agreed on it. What remains is the gradient of the sum of q log(q/p) - q + p over the tokens that
  the teacher allows, whose minimum is at q = p. Terms that are masked out of the value, as in code
  of M1 (Wang, Li et al., 2025), would have another minimum, with a share of 1 - 1/e of the
  probability on forbidden tokens; their plain gradient is NaN.

A fit stops at a step whose loss is infinite, with an error that names this cause. Crop both sides
to the common vocabulary (``vocab_size`` of `kdlight.FrozenTeacher`), or choose a finite loss.
"""

from __future__ import annotations

from kdlight.losses.adaptive import adaptive_kl, todi
from kdlight.losses.alpha_beta import alpha_beta
from kdlight.losses.balanced import balanced_kl
from kdlight.losses.clipped_kl.dac_kl import dac_kl
from kdlight.losses.cross_entropy import cross_entropy
from kdlight.losses.decoupled import decoupled_kl
from kdlight.losses.features.attention_relation import attention_relation
from kdlight.losses.features.attention_transfer import attention_transfer
from kdlight.losses.features.feature_distance import feature_distance
from kdlight.losses.features.inter_channel_correlation import inter_channel_correlation
from kdlight.losses.features.linear_cka import linear_cka
from kdlight.losses.features.relational_angle import relational_angle
from kdlight.losses.features.relational_distance import relational_distance
from kdlight.losses.features.similarity_preserving import similarity_preserving
from kdlight.losses.kl import forward_kl, reverse_kl, symmetric_kl
from kdlight.losses.masked_mean import masked_mean
from kdlight.losses.mean_squared_error import mean_squared_error
from kdlight.losses.mixtures import jensen_shannon, skew_forward_kl, skew_reverse_kl
from kdlight.losses.optimal_transport.multi_level_ot import multi_level_ot
from kdlight.losses.optimal_transport.plan import sinkhorn_plan
from kdlight.losses.optimal_transport.sinkhorn import sinkhorn
from kdlight.losses.optimal_transport.uld import uld
from kdlight.losses.preference import dpo, simpo
from kdlight.losses.redi import redi
from kdlight.losses.sampled_reverse_kl import sampled_reverse_kl
from kdlight.losses.sequence import sequence_log_probs
from kdlight.losses.span_kl import span_kl
from kdlight.losses.taid import taid
from kdlight.losses.topk import topk_forward_kl
from kdlight.losses.topk_reverse_kl import topk_reverse_kl
from kdlight.losses.total_variation import total_variation
from kdlight.losses.unlikelihood import unlikelihood

__all__ = [
    "adaptive_kl",
    "alpha_beta",
    "attention_relation",
    "attention_transfer",
    "balanced_kl",
    "cross_entropy",
    "dac_kl",
    "decoupled_kl",
    "dpo",
    "feature_distance",
    "forward_kl",
    "inter_channel_correlation",
    "jensen_shannon",
    "linear_cka",
    "masked_mean",
    "mean_squared_error",
    "multi_level_ot",
    "redi",
    "relational_angle",
    "relational_distance",
    "reverse_kl",
    "sampled_reverse_kl",
    "sequence_log_probs",
    "similarity_preserving",
    "simpo",
    "sinkhorn",
    "sinkhorn_plan",
    "skew_forward_kl",
    "skew_reverse_kl",
    "span_kl",
    "symmetric_kl",
    "taid",
    "todi",
    "topk_forward_kl",
    "topk_reverse_kl",
    "total_variation",
    "uld",
    "unlikelihood",
]
