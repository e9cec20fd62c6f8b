"""Which of a teacher's logits are stored, and how precisely."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.cache.records import BITS
from kdlight.checks import check_integer, check_type
from kdlight.sources import LogitsSource, TopK

POSITIONS_PER_CHUNK = 256
"""Number of positions whose logits are computed at once."""


class Settings(NamedTuple):
    """Which of a teacher's logits are stored, and how precisely.

    Attributes:
        k: maximal number of tokens stored per position; None for all.
        top_p: store only the most likely of them that together have this mass; None for all k.
        bits: number of bits of a log-probability, one of `kdlight.cache.records.BITS`; 32 is exact.

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
        """Raise a ValueError if a setting is out of its range, a TypeError if it is no number."""
        if self.k is not None:
            check_integer("k", self.k, 1)
        check_type("top_p", self.top_p, (int, float, type(None)), "a number or None")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.bits not in BITS:
            raise ValueError(f"bits must be one of {BITS}, got {self.bits!r}")

    def reduce(self, source: LogitsSource, index: Tensor) -> TopK:
        """Return the tokens to store at positions ``index``, on the CPU, sorted by id.

        The log-probabilities of tokens beyond ``top_p`` are -inf.
        """
        vocabulary = source.shape[-1]
        k = vocabulary if self.k is None else self.k
        chunks = index.split(POSITIONS_PER_CHUNK)
        parts = [_top(source.select(chunk), k) for chunk in chunks]
        ids, log_p, tails = (
            torch.cat([getattr(part, name).cpu() for part in parts])
            for name in ("ids", "log_probs", "log_tail")
        )
        if self.top_p is not None:
            mass_before = log_p.exp().cumsum(-1) - log_p.exp()
            dropped = log_p.masked_fill(mass_before < self.top_p, -torch.inf).logsumexp(-1)
            log_p, tails = (
                log_p.masked_fill(mass_before >= self.top_p, -torch.inf),
                torch.logaddexp(tails, dropped),
            )
        order = ids.argsort(-1)
        return TopK(ids.gather(-1, order), log_p.gather(-1, order), vocabulary, log_tail=tails)


def _top(source: LogitsSource, k: int) -> TopK:
    """Return the k most likely tokens; of a served teacher, the tokens that it returned."""
    if not isinstance(source, TopK):
        return TopK.of(source.logits(), k)
    order = source.log_probs.argsort(-1, descending=True)
    ids, values = source.ids.gather(-1, order), source.log_probs.gather(-1, order)
    return replace(source, ids=ids, log_probs=values).top(k)
