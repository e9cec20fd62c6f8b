"""The driver: from logits sources and a per-token loss to one sum and one count.

Whether logits are computed at once or in chunks is decided here and nowhere else.
"""

from __future__ import annotations

from kdlight.reduce.coupled import RowProblems, coupled_sum
from kdlight.reduce.loss import Loss, PerTokenLoss, PerTokenValues, split_values
from kdlight.reduce.plan import Chunked, Chunking, describe_plan, plan
from kdlight.reduce.sums import position_values, token_sum, token_values

__all__ = [
    "Chunked",
    "Chunking",
    "Loss",
    "PerTokenLoss",
    "PerTokenValues",
    "RowProblems",
    "coupled_sum",
    "describe_plan",
    "plan",
    "position_values",
    "split_values",
    "token_sum",
    "token_values",
]
