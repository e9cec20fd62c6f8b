"""Whether a teacher answers the same with padding after a sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kdlight.sources import LogitsSource

PADDING = 5
"""Number of tokens after the sequence."""

ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-4}
"""By how much a log-probability may change by rounding, by the dtype of logits."""

HALF_ROUNDING = 0.03


@torch.no_grad()
def padding_changes_nothing(
    run: Callable[[list[list[int]]], LogitsSource], alone: LogitsSource, tokens: list[int]
) -> bool:
    """Return whether padding after a sequence leaves its log-probabilities as they are.

    It does in a causal model, and in one that follows the mask. Where it does not, sequences of
    different lengths cannot run together.

    Args:
        run: computes the logits of several sequences, padded at their ends.
        alone: the logits of ``tokens``.
        tokens: a sequence.

    Example:
        >>> from kdlight import Dense
        >>> def run(sequences):
        ...     return Dense(torch.zeros(len(sequences), max(map(len, sequences)), 7))
        >>> padding_changes_nothing(run, run([[1, 2]]), [1, 2])
        True
    """
    try:
        both = run([tokens, [0] * (len(tokens) + PADDING)])
    except Exception:  # whatever a teacher does with a mask that it does not expect
        return False
    rows = torch.arange(len(tokens))
    first, second = (each.select(rows.to(each.device)).logits() for each in (alone, both))
    rounding = ROUNDING.get(first.dtype, HALF_ROUNDING)
    one, other = (each.float().log_softmax(-1) for each in (first, second))
    return torch.allclose(one, other, rtol=0.0, atol=rounding)
