"""The driver: from logits sources and a per-row rule to one sum and one count.

How logits are evaluated, all at once or in chunks, is decided here and nowhere else.
"""

from kdlight.reduce.chunking import Chunked, Chunking, plan
from kdlight.reduce.loss import Loss, Rows, RowValues, split_rows
from kdlight.reduce.stored import beside_student
from kdlight.reduce.sums import evaluation, token_sum, token_values

__all__ = [
    "Chunked",
    "Chunking",
    "Loss",
    "RowValues",
    "Rows",
    "beside_student",
    "evaluation",
    "plan",
    "split_rows",
    "token_sum",
    "token_values",
]
