"""Log-probabilities of whole sequences."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.cross_entropy import IGNORED, check_labels, cross_entropy
from kdlight.losses.log_space import widen


def sequence_log_probs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    r"""Sum of the labels' log-probabilities and their number, (B, T, V), (B, T) -> (B,), (B,).

    .. math:: u = \sum_{t \in T} \log q_{t, y_t}, \qquad n = |T|

    What losses on whole completions are made of: ``sums / lengths.clamp(min=1)`` is the mean
    log-probability that REDI and SimPO take, ``sums`` what DPO takes. Labels are already aligned
    with the logits; positions labelled -100 (prompt, padding) do not count, whatever stands there.
    A sequence without any gives 0 and 0.

    Args:
        logits: Logits of q.
        labels: Token ids, or -100.

    Raises:
        ValueError: If the labels are not one id a position of (B, T).
        TypeError: If the labels are not integers, or the logits not floating point.

    >>> import torch
    >>> sums, lengths = sequence_log_probs(torch.zeros(1, 3, 4), torch.tensor([[2, 0, -100]]))
    >>> sums, lengths
    (tensor([-2.7726]), tensor([2]))
    """
    if logits.dim() != 3:
        raise ValueError(f"logits must have the shape (B, T, V), got {tuple(logits.shape)}")
    check_labels(logits, labels)
    kept = labels != IGNORED
    lengths = kept.sum(-1)
    values = -cross_entropy(logits[kept], labels[kept])  # selected: a NaN elsewhere is not met
    sums = widen(logits).new_zeros(len(labels)).index_add(0, kept.nonzero()[:, 0], values)
    return sums, lengths
