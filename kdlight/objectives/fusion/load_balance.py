"""Load balance: how far the teachers are from getting equal shares of a batch."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Literal

from torch import Tensor

Balance = Literal["kl", "cv"]
"""How the imbalance of teachers is measured."""


def balance_kl(log_weights: Tensor) -> Tensor:
    r"""Return the KL from uniform shares to the shares of a batch, over K, (n, K) -> ().

    .. math:: \frac1K \operatorname{KL}(\text{uniform} \,\|\, \bar w)
              = \frac1K \sum_k \frac1K \Bigl(\log \frac1K - \log \bar w_k\Bigr),
              \qquad \bar w = \frac1n \sum_i w_i

    It is 0 for equal shares, and grows without a bound as a share vanishes. The mean is taken in
    log space: where a gate has collapsed and a share underflows, the value is large and finite, and
    the gradient still leads out of the collapse.

    Args:
        log_weights: logarithms of the weights of K teachers for each of n samples.

    The division by K is that of the code of Li, Yang et al., "MST-Distill: Mixture of Specialized
    Teachers for Cross-Modal Knowledge Distillation", 2025.

    Example:
        >>> import torch
        >>> balance_kl(torch.tensor([[0.0, -1000.0]]).log_softmax(-1))
        tensor(249.6534)
    """
    if not len(log_weights):
        return log_weights.sum()  # 0, with a graph
    teachers = log_weights.shape[-1]
    log_shares = log_weights.logsumexp(0) - log(len(log_weights))
    return (-log(teachers) - log_shares).mean() / teachers


def balance_cv(log_weights: Tensor) -> Tensor:
    r"""Return the coefficient of variation of the shares of a batch, (n, K) -> ().

    .. math:: \frac{\operatorname{std}_k \sum_i w_{ik}}{\operatorname{mean}_k \sum_i w_{ik}}

    with the unbiased standard deviation. It is 0 for equal shares, and :math:`\sqrt K` where one
    teacher has all samples. There its gradient vanishes with that of the gate's softmax.

    Args:
        log_weights: logarithms of the weights of K teachers for each of n samples.

    Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts
    Layer", 2017, Eq. 6, where it is squared; not squared in the code of MST-Distill.

    Example:
        >>> import torch
        >>> balance_cv(torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log())
        tensor(0.5657)
    """
    if not len(log_weights):
        return log_weights.sum()
    sums = log_weights.exp().sum(0)
    return sums.std() / sums.mean()


BALANCE: dict[str, Callable[[Tensor], Tensor]] = {"kl": balance_kl, "cv": balance_cv}
"""The measures by name."""
