"""Linear centered kernel alignment of features."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.features.linear_cka import linear_cka
from kdlight.objectives.features.batch_objective import BatchObjective
from kdlight.objectives.features.feature_objective import Pairs
from kdlight.objectives.features.sample_rows import Pooling

SAMPLES = 4
"""What the unbiased estimate needs at least."""


class LinearCKA(BatchObjective):
    """1 minus the alignment of features, `kdlight.losses.linear_cka`.

    Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019. Choose it to
    compare features of any widths without a projector; it ignores shifts, scales and rotations.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`.
        debiased: use the unbiased estimate, which needs 4 samples or more.
        pooling: see `kdlight.objectives.SimilarityPreserving`.
        gather: compare the samples of all ranks.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> x = torch.randn(4, 8)
        >>> inputs = LossInputs(x, x, student_features={"a": x}, teacher_features={"b": 2 * x + 1})
        >>> round(abs(LinearCKA({"a": "b"})(inputs).mean().item()), 5)
        0.0
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        debiased: bool = False,
        pooling: Pooling = "auto",
        gather: bool = True,
    ) -> None:
        super().__init__(pairs, pooling=pooling, gather=gather)
        self.debiased = bool(debiased)

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of a batch of rows, ``(B, D_s), (B, D_t) -> ()``."""
        if not len(student):  # no valid sample: 0 with a graph
            return student.sum()
        if self.debiased and len(student) < SAMPLES:
            raise ValueError(
                f"LinearCKA(debiased=True) needs {SAMPLES} valid samples or more in a batch, of"
                f" training and of validation, got {len(student)}: use larger batches, without a"
                " smaller last one (drop_last=True), or debiased=False"
            )
        return 1 - linear_cka(student, teacher, debiased=self.debiased)
