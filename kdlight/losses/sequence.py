"""Log-probabilities of sequences."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.cross_entropy import cross_entropy
from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import widen


def sequence_log_probs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    r"""Sum of the labels' log-probabilities and their number, (B, T, V), (B, T) -> (B,), (B,).

    .. math:: u = \sum_{t \in T} \log q_{t, y_t}, \qquad n = |T|

    The input of losses on sequences: ``sums / lengths.clamp(min=1)`` is the mean log-probability
    that REDI and SimPO take, and ``sums`` is what DPO takes. Labels must already be aligned with
    the logits. Positions with a label of -100 (prompt, padding) do not count, whatever their
    logits are. A sequence without valid positions gives 0 and 0.

    Args:
        logits: Logits of q.
        labels: Token ids, or -100.

    Returns:
        Sums, in float32 or wider, and numbers of valid positions.

    Raises:
        ValueError: If there is not one label per position of (B, T).
        TypeError: If the labels are not integers, or the logits not floating point.

    >>> import torch
    >>> sums, lengths = sequence_log_probs(torch.zeros(1, 3, 4), torch.tensor([[2, 0, -100]]))
    >>> sums, lengths
    (tensor([-2.7726]), tensor([2]))
    """
    if logits.dim() != 3:
        raise ValueError(f"logits must have the shape (B, T, V), got {tuple(logits.shape)}")
    check_labels(logits, labels)
    valid = labels != IGNORE_INDEX
    lengths = valid.sum(-1)
    # select valid positions instead of masking, so that NaN logits elsewhere have no effect
    values = -cross_entropy(logits[valid], labels[valid])
    sums = widen(logits).new_zeros(len(labels)).index_add(0, valid.nonzero()[:, 0], values)
    return sums, lengths
