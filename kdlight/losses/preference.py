"""Preference losses on the margin between a chosen and a rejected sequence: DPO and SimPO."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from kdlight.checks import check_positive, check_range
from kdlight.losses.redi import check_pairs


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    r"""Direct preference optimisation per pair, (B,), (B,), (B,), (B,) -> (B,).

    .. math:: -\log \sigma\big(\beta\, [(u_w - u_w^{ref}) - (u_l - u_l^{ref})]\big)

    A baseline for REDI: the gradient of the rejected sequence vanishes once the margin over the
    reference model is large. With sums over thousands of tokens a small ``beta`` is usual.

    Args:
        chosen: Summed log-probabilities of the chosen sequences under the trained model.
        rejected: Summed log-probabilities of the rejected sequences under the trained model.
        reference_chosen: Those of the chosen sequences under the reference model.
        reference_rejected: Those of the rejected sequences under the reference model.
        beta: Scale of the margin, which is in nats; above 0.

    Returns:
        One value per pair.

    Raises:
        ValueError: If the shapes differ, or beta is not above 0 and finite.

    Rafailov et al., Direct Preference Optimization, 2023, eq. (7).

    >>> import torch
    >>> u = torch.tensor([-8.0])
    >>> dpo(u, u, u, u)
    tensor([0.6931])
    """
    check_positive("beta", beta)
    check_pairs(chosen, rejected)
    check_pairs(chosen, reference_chosen, "reference_chosen")
    check_pairs(chosen, reference_rejected, "reference_rejected")
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return softplus(-beta * margin)


def simpo(chosen: Tensor, rejected: Tensor, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    r"""Simple preference optimisation per pair, from mean log-probabilities, (B,), (B,) -> (B,).

    .. math:: -\log \sigma\big(\beta\, (m_w - m_l) - \gamma\big)

    A baseline for REDI without a reference model. ``gamma`` is subtracted from the scaled margin,
    and not multiplied by ``beta``. No likelihood term is added.

    Args:
        chosen: Mean log-probabilities of the chosen sequences, see `sequence_log_probs`.
        rejected: Mean log-probabilities of the rejected sequences.
        beta: Scale of the margin, which is in nats; above 0.
        gamma: The scaled margin at which the loss is log 2, not negative.

    Returns:
        One value per pair.

    Raises:
        ValueError: If the shapes differ, or a number is out of its range.

    Meng, Xia, Chen, SimPO: Simple Preference Optimization with a Reference-Free Reward, 2024,
    eq. (6).

    >>> import torch
    >>> simpo(torch.tensor([-0.5]), torch.tensor([-1.0]))
    tensor([0.6931])
    """
    check_positive("beta", beta)
    check_range("gamma", gamma, 0.0, math.inf, open_high=True)
    check_pairs(chosen, rejected)
    return softplus(gamma - beta * (chosen - rejected))
