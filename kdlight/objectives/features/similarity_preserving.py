"""Similarities between the samples of a batch, as the teacher has them."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.features.similarity_preserving import similarity_preserving
from kdlight.objectives.features.batch_objective import BatchObjective


class SimilarityPreserving(BatchObjective):
    """The difference of the similarities of samples, `kdlight.losses.similarity_preserving`.

    Tung, Mori, "Similarity-Preserving Knowledge Distillation", 2019, Eq. 3 and 4. Choose it to
    compare features of any widths and resolutions without a projector, in addition to a loss of the
    logits. The published weight is 3000, as the mean is over all pairs of samples.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`.
        pooling: how a feature becomes one row a sample: ``"mean"`` over positions without padding,
            ``"flatten"``, or ``"auto"``: the mean of ``(B, T, D)``, and all entries of a map.
        gather: compare the samples of all ranks.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> x = torch.randn(4, 8)
        >>> inputs = LossInputs(x, x, student_features={"a": x}, teacher_features={"b": 2 * x})
        >>> round(SimilarityPreserving({"a": "b"})(inputs).mean().item(), 6)
        0.0
    """

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of a batch of rows, ``(B, D_s), (B, D_t) -> ()``."""
        return similarity_preserving(student, teacher)
