"""SinKD: a weighted sum of cross-entropy, soft targets and Sinkhorn distance."""

from __future__ import annotations

from typing import Any

from kdlight.objectives.cross_entropy import CrossEntropy
from kdlight.objectives.forward_kl import ForwardKL
from kdlight.objectives.sinkhorn import Sinkhorn
from kdlight.objectives.weighted import Weighted


class SinkhornKD(Weighted):
    r"""A weighted sum of cross-entropy with the labels, forward KL and the Sinkhorn distance.

    .. math:: w_{ce} L_{CE} + w_{kd} \operatorname{KL}_\tau + w_{s} \langle P, C \rangle

    Cui et al., "Sinkhorn Distance Minimization for Knowledge Distillation", 2024. Their soft
    targets are a cross-entropy, which has the same gradient. Choose it for classifiers; for
    language models with ``relative_epsilon`` or ``geometry="sequence"``. The hyper-parameters
    belong to the terms: callbacks find them as ``terms.kd.temperature`` or ``weights.sinkhorn``.

    Args:
        cross_entropy: weight of the cross-entropy with the labels.
        kd: weight of the forward KL.
        sinkhorn: weight of the distance, whose plans have mass 1. The published sum over the batch
            with its published weight equals a weight of 0.0256 in batches of 32, see `reference`.
        kd_temperature: temperature of the forward KL, without the factor T^2.
        **options: arguments of `Sinkhorn`: ``temperature``, ``epsilon``, ``iterations``,
            ``geometry``, ``reduction``, ``gradient``, ``p``, ``relative_epsilon``, ``debiased``,
            ``solver``, ``gather``.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> x = torch.zeros(3, 5)
        >>> loss = SinkhornKD()(LossInputs(x, x, labels=torch.tensor([0, 1, 2])))
        >>> sorted(loss.parts)
        ['ce', 'kd', 'sinkhorn', 'sinkhorn/points']
    """

    needs = frozenset({"teacher", "labels"})

    def __init__(
        self,
        *,
        cross_entropy: float = 0.2,
        kd: float = 0.8,
        sinkhorn: float = 0.8,
        kd_temperature: float = 2.0,
        **options: Any,
    ) -> None:
        distance = Sinkhorn(**options)
        soft_targets = ForwardKL(temperature=kd_temperature, temperature_squared=False)
        terms = {"ce": CrossEntropy(), "kd": soft_targets, "sinkhorn": distance}
        super().__init__(terms, {"ce": cross_entropy, "kd": kd, "sinkhorn": sinkhorn})

    @classmethod
    def reference(cls, **options: Any) -> SinkhornKD:
        """Create it with the published weights: the sum over the batch, times 0.8 and 0.001.

        >>> SinkhornKD.reference().weights["sinkhorn"]
        0.0008
        """
        return cls(**{"sinkhorn": 8e-4, "reduction": "sum"} | options)
