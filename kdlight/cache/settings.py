"""How much of a teacher's answer is kept."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.cache.records import BITS
from kdlight.sources import LogitsSource, TopK

ROWS = 256
"""Positions whose logits are made at once."""


class Settings(NamedTuple):
    """How much of a teacher's answer is kept.

    Attributes:
        k: at most how many tokens a position; None for all.
        top_p: only as many of them as together have this mass; None for all k.
        bits: of a log-probability, one of `kdlight.cache.records.BITS`; 32 is exact.

    Example:
        >>> from kdlight.sources import Dense
        >>> logits = Dense(torch.tensor([[1.0, 3.0, 2.0]]))
        >>> Settings(k=2).reduce(logits, torch.tensor([0])).ids
        tensor([[1, 2]])
    """

    k: int | None = 50
    top_p: float | None = None
    bits: int = 8

    def check(self) -> None:
        """Raise a ValueError that names what is out of its range."""
        if self.k is not None and self.k < 1:
            raise ValueError(f"k must be at least 1, or None for all tokens, got {self.k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.bits not in BITS:
            raise ValueError(f"bits must be one of {BITS}, got {self.bits}")

    def reduce(self, source: LogitsSource, index: Tensor) -> TopK:
        """What is kept of the positions ``index``, on the CPU, by id, with -inf for what is not."""
        vocabulary = source.shape[-1]
        k = vocabulary if self.k is None else self.k
        parts = [TopK.of(source.select(some).logits(), k) for some in index.split(ROWS)]
        ids, log_p, tails = (
            torch.cat([getattr(part, name).cpu() for part in parts])
            for name in ("ids", "log_probs", "log_tail")
        )
        if self.top_p is not None:
            before = log_p.exp().cumsum(-1) - log_p.exp()
            dropped = log_p.masked_fill(before < self.top_p, -torch.inf).logsumexp(-1)
            log_p, tails = (
                log_p.masked_fill(before >= self.top_p, -torch.inf),
                torch.logaddexp(tails, dropped),
            )
        order = ids.argsort(-1)
        return TopK(ids.gather(-1, order), log_p.gather(-1, order), vocabulary, log_tail=tails)
