"""REDI: raises the likelihood of chosen sequences and lowers that of rejected ones."""

from __future__ import annotations

import math

from torch import Tensor

from kdlight.checks import check_range


def redi(
    chosen: Tensor, rejected: Tensor, *, alpha: float = 0.8, chosen_weight: float = 1.0
) -> Tensor:
    r"""The REDI loss per pair of sequences, (B,), (B,) -> (B,).

    .. math:: -c\, m_w + \alpha\, m_l, \qquad m = \frac{1}{|y|} \sum_t \log q_{t, y_t}

    For the second stage of distillation from a teacher's traces: it also uses the rejected traces,
    which supervised fine-tuning throws away. It needs no reference model. The loss has no lower
    bound where alpha is above 0. Neither the loss nor the margin :math:`m_w - m_l` tells whether a
    run goes well: both improve while a model collapses. Monitor :math:`m_w`.

    Args:
        chosen: Mean log-probabilities of the chosen sequences, see `sequence_log_probs`.
        rejected: Mean log-probabilities of the rejected sequences.
        alpha: Weight of the rejected sequences, in [0, 1]; 0 trains on the chosen ones alone, 1 is
            the symmetric loss.
        chosen_weight: Weight c of the chosen sequences, not negative.

    Returns:
        One value per pair.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.

    Xu et al., Harnessing Negative Signals: Reinforcement Distillation from Teacher Data for LLM
    Reasoning, 2025, eq. (5).

    >>> import torch
    >>> redi(torch.tensor([-0.5]), torch.tensor([-1.0]), alpha=0.8)
    tensor([-0.3000])
    """
    check_range("alpha", alpha, 0.0, 1.0)
    check_range("chosen_weight", chosen_weight, 0.0, math.inf, open_high=True)
    check_pairs(chosen, rejected)
    return -chosen_weight * chosen + alpha * rejected


def check_pairs(chosen: Tensor, rejected: Tensor, name: str = "rejected") -> None:
    """Raise an error for log-probabilities that do not come in pairs.

    Raises:
        ValueError: If the shapes differ.
    """
    if chosen.shape != rejected.shape:
        raise ValueError(
            f"chosen and {name} must hold one log-probability per pair, got shapes"
            f" {tuple(chosen.shape)} and {tuple(rejected.shape)}"
        )
