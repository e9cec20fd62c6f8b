"""The answer of a server with a padded vocabulary, without the padding."""

from __future__ import annotations

import numpy as np

from kdlight.cache.records import Sequence


def crop(sequence: Sequence, size: int) -> Sequence:
    """Keep the first ``size`` tokens of the vocabulary, whose probabilities then sum to 1.

    The probability of tokens that are not kept is known where they are among those of the answer;
    others, in the tail, are taken for tokens that are kept. Padding of a vocabulary has next to no
    probability, so that the difference is small.

    Raises:
        ValueError: at a position, no token is left.

    Example:
        >>> from kdlight.remote.answers import to_sequence
        >>> answer = to_sequence(1, [(0, [1, 7], [-0.7, -3.0])], vocab_size=8)
        >>> crop(answer, 5).ids
        array([1])
    """
    kept = sequence.ids < size
    if kept.all():
        return sequence
    places = np.unique(sequence.positions, return_inverse=True)[1]
    lost = np.zeros(len(sequence.log_tails))
    np.add.at(lost, places[~kept], np.exp(sequence.log_probs[~kept].astype(np.float64)))
    if len(np.unique(places[kept])) < len(sequence.log_tails):
        raise ValueError(
            f"a position has only tokens from {size} on, which vocab_size leaves out; set"
            " vocab_size to the number of tokens that both models predict"
        )
    scale = -np.log1p(-np.minimum(lost, 1 - 1e-6))
    return sequence._replace(
        positions=sequence.positions[kept],
        ids=sequence.ids[kept],
        log_probs=np.minimum(sequence.log_probs[kept] + scale[places[kept]], 0).astype(np.float32),
        log_tails=np.minimum(sequence.log_tails + scale, 0).astype(np.float32),
    )
