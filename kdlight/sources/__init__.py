"""Where logits come from: a tensor, hidden states and a head, a cache, several teachers."""

from __future__ import annotations

from kdlight.sources.aligned import Aligned, Alignment
from kdlight.sources.base import Dense, Index, Logits, LogitsSource, as_source
from kdlight.sources.detached import Detached, detached
from kdlight.sources.mixture import Mixture
from kdlight.sources.paired import Pair, pair_with_next
from kdlight.sources.position_weights import (
    ConfidenceWeights,
    EntropyWeights,
    GivenWeights,
    PositionWeights,
)
from kdlight.sources.projected import Projected
from kdlight.sources.stacked import Stacked, Unqueried, stack, without_names
from kdlight.sources.tempered import Tempered, tempered
from kdlight.sources.top_k import TopK
from kdlight.sources.transformed import Moved, masked_columns

__all__ = [
    "Aligned",
    "Alignment",
    "ConfidenceWeights",
    "Dense",
    "Detached",
    "EntropyWeights",
    "GivenWeights",
    "Index",
    "Logits",
    "LogitsSource",
    "Mixture",
    "Moved",
    "Pair",
    "PositionWeights",
    "Projected",
    "Stacked",
    "Tempered",
    "TopK",
    "Unqueried",
    "as_source",
    "detached",
    "masked_columns",
    "pair_with_next",
    "stack",
    "tempered",
    "without_names",
]
