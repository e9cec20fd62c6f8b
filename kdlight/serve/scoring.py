"""From a teacher's logits to what a request asks for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdlight.cache.records import Sequence
from kdlight.cache.settings import POSITIONS_PER_CHUNK, Settings
from kdlight.losses.log_space import log_probs
from kdlight.losses.topk import log_mass, without
from kdlight.sources import LogitsSource


def score_top(source: LogitsSource, rows: list[Tensor], k: int | None) -> list[Sequence]:
    """Return the k most likely tokens of each row.

    Args:
        source: logits ``(B, T, V)``.
        rows: the flattened positions of each row.
        k: number of tokens; None for all.

    Raises:
        ValueError: a logit is NaN.

    Example:
        >>> from kdlight.sources import Dense
        >>> logits = Dense(torch.tensor([[[1.0, 3.0, 2.0]]]))
        >>> score_top(logits, [torch.tensor([0])], 2)[0].ids
        array([1, 2])
    """
    kept = Settings(k).reduce(source, torch.cat(rows).to(source.device))
    assert kept.log_tail is not None
    possible = kept.log_probs > -torch.inf
    return _split(rows, kept.ids, kept.log_probs, kept.log_tail, possible)


def score_given(
    source: LogitsSource, rows: list[Tensor], ids: list[NDArray[np.int64]]
) -> list[Sequence]:
    """Return the log-probabilities of given tokens ``(T, k)`` of each row, each token once.

    Raises:
        ValueError: a logit is NaN.

    Example:
        >>> from kdlight.sources import Dense
        >>> logits = Dense(torch.zeros(1, 1, 4))
        >>> (scored,) = score_given(logits, [torch.tensor([0])], [np.array([[2, 0]])])
        >>> scored.ids, scored.log_probs.round(4)
        (array([0, 2]), array([-1.3863, -1.3863], dtype=float32))
    """
    wanted = torch.from_numpy(np.concatenate(ids)).sort(-1).values
    index = torch.cat(rows)
    values, tails = [], []
    for some, own in zip(
        index.split(POSITIONS_PER_CHUNK), wanted.split(POSITIONS_PER_CHUNK), strict=True
    ):
        log_p = log_probs(source.select(some.to(source.device)).logits())
        own = own.to(log_p.device)
        values.append(log_p.gather(-1, own).cpu())
        tails.append(log_mass(without(log_p, own)).cpu())
    is_first = wanted.diff(dim=-1, prepend=torch.full_like(wanted[:, :1], -1)) != 0
    return _split(rows, wanted, torch.cat(values), torch.cat(tails), is_first)


def _split(
    rows: list[Tensor], ids: Tensor, values: Tensor, tails: Tensor, kept: Tensor
) -> list[Sequence]:
    if bool(values.isnan().any() | tails.isnan().any()):
        raise ValueError(
            "the teacher's logits are NaN; check its weights, and that its dtype can hold its"
            " activations (float16 often cannot)"
        )
    lengths, sequences = [len(row) for row in rows], []
    parts = [each.split(lengths) for each in (ids, values, tails, kept)]
    for own_ids, own_values, own_tails, own in zip(*parts, strict=True):
        positions = torch.arange(len(own_ids))[:, None].expand_as(own_ids)
        sequences.append(
            Sequence(
                len(own_ids),
                positions[own].numpy(),
                own_ids[own].numpy(),
                own_values[own].float().numpy(),
                own_tails.float().numpy(),
            )
        )
    return sequences
