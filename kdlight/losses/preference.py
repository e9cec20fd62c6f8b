"""Losses of a margin between a right and a wrong completion: DPO and SimPO."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from kdlight.losses.checks import check_range
from kdlight.losses.redi import check_pairs


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    r"""Direct preference optimisation per pair, from sums of log-probabilities, 4 (B,) -> (B,).

    .. math:: -\log \sigma\big(\beta\, [(u_w - u_w^{ref}) - (u_l - u_l^{ref})]\big)

    A baseline for REDI: the push away from the wrong completion dies once the margin over the
    reference model is won. With sums over thousands of tokens a small ``beta`` is usual.

    Args:
        chosen: Summed log-probabilities of right completions under the model that learns.
        rejected: Those of wrong completions.
        reference_chosen: Those of the right ones under the reference model.
        reference_rejected: Those of the wrong ones under the reference model.
        beta: How much a nat of margin counts, above 0.

    Raises:
        ValueError: If the shapes differ, or beta is not above 0.

    Rafailov et al., Direct Preference Optimization, 2023, eq. (7).

    >>> import torch
    >>> u = torch.tensor([-8.0])
    >>> dpo(u, u, u, u)
    tensor([0.6931])
    """
    _check_beta(beta)
    check_pairs(chosen, rejected)
    check_pairs(chosen, reference_chosen, "reference_chosen")
    check_pairs(chosen, reference_rejected, "reference_rejected")
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return softplus(-beta * margin)


def simpo(chosen: Tensor, rejected: Tensor, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    r"""Simple preference optimisation per pair, from mean log-probabilities, (B,), (B,) -> (B,).

    .. math:: -\log \sigma\big(\beta\, (m_w - m_l) - \gamma\big)

    A baseline for REDI without a reference model. ``gamma`` stands beside the scaled margin, not
    inside it, and no likelihood term is added.

    Args:
        chosen: Mean log-probabilities of right completions, see `sequence_log_probs`.
        rejected: Those of wrong completions.
        beta: How much a nat of margin counts, above 0.
        gamma: The scaled margin at which the loss is log 2, not negative.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.

    Meng, Xia, Chen, SimPO: Simple Preference Optimization with a Reference-Free Reward, 2024,
    eq. (6).

    >>> import torch
    >>> simpo(torch.tensor([-0.5]), torch.tensor([-1.0]))
    tensor([0.6931])
    """
    _check_beta(beta)
    check_range("gamma", gamma, 0.0, math.inf, open_high=True)
    check_pairs(chosen, rejected)
    return softplus(gamma - beta * (chosen - rejected))


def _check_beta(beta: float) -> None:
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be above 0 and finite, got {beta}")
