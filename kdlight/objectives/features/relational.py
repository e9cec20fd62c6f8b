"""Distances and angles between the samples of a batch, as the teacher has them."""

from __future__ import annotations

from math import inf

from torch import Tensor

from kdlight.checks import check_range
from kdlight.losses.features.relational_angle import relational_angle
from kdlight.losses.features.relational_distance import relational_distance
from kdlight.objectives.features.batch_objective import BatchObjective
from kdlight.objectives.features.feature_objective import Pairs
from kdlight.objectives.features.sample_rows import Pooling


class Relational(BatchObjective):
    r"""Relational distillation: `kdlight.losses.relational_distance`, `relational_angle`.

    .. math:: L = w_d L_{distance} + w_a L_{angle}

    Park et al., "Relational Knowledge Distillation", 2019, Eq. 5 to 8. Choose it for embeddings, of
    which only relations matter. The authors' weights are 1 and 2 for metric learning, and 25 and 50
    beside a cross-entropy for classifiers.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`.
        distance: weight of the distances, not negative.
        angle: weight of the angles, not negative; their cost grows with the third power of the
            number of samples.
        pooling: see `kdlight.objectives.SimilarityPreserving`.
        gather: compare the samples of all ranks.

    Raises:
        ValueError: a weight is negative.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> x = torch.randn(4, 8)
        >>> inputs = LossInputs(x, x, student_features={"a": x}, teacher_features={"b": 2 * x})
        >>> round(Relational({"a": "b"})(inputs).mean().item(), 6)
        0.0
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        distance: float = 1.0,
        angle: float = 2.0,
        pooling: Pooling = "auto",
        gather: bool = True,
    ) -> None:
        super().__init__(pairs, pooling=pooling, gather=gather)
        check_range("distance", distance, 0.0, inf, open_high=True)
        check_range("angle", angle, 0.0, inf, open_high=True)
        self.distance, self.angle = float(distance), float(angle)

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of a batch of rows, ``(B, D_s), (B, D_t) -> ()``."""
        loss = self.distance * relational_distance(student, teacher)
        if self.angle:
            loss = loss + self.angle * relational_angle(student, teacher)
        return loss
