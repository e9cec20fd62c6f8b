"""Logits of a padded vocabulary, of which the first columns are tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlight.sources import Aligned, Alignment, Dense, LogitsSource, Projected


def crop_columns(source: LogitsSource, size: int) -> LogitsSource:
    """Keep the first ``size`` columns of the vocabulary, ``(..., V) -> (..., size)``.

    Raises:
        ValueError: If there are fewer columns.

    Example:
        >>> crop_columns(Dense(torch.zeros(2, 8)), 5).shape
        torch.Size([2, 5])
    """
    width = source.shape[-1]
    if width == size:
        return source
    if width < size:
        raise ValueError(
            f"vocab_size is {size}, but the logits have {width} columns only; set vocab_size to the"
            " number of tokens that student and teacher have in common"
        )
    if isinstance(source, Dense):
        return Dense(source.tensor[..., :size])
    if isinstance(source, Projected) and isinstance(source.head, nn.Module):
        return Projected(source.hidden, CroppedHead(source.head, size), source.transform)
    ids = torch.arange(size)
    return Aligned(source, Alignment(ids, ids, size, width))


class CroppedHead(nn.Module):
    """An output head whose first columns are kept; it has the parameters of the whole one.

    Example:
        >>> head = CroppedHead(nn.Linear(4, 8), 5)
        >>> head(torch.zeros(2, 4)).shape, head.out_features
        (torch.Size([2, 5]), 5)
    """

    def __init__(self, head: nn.Module, size: int) -> None:  # type: ignore[override]
        super().__init__()
        self.head = head
        self.out_features = size

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute the logits of the first tokens."""
        return self.head(hidden)[..., : self.out_features]
