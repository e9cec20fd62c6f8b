"""The base of objectives that compare the samples of a batch with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.checks import check_choice
from kdlight.distributed.gather import exchange_sizes, gather_rows
from kdlight.objectives.features.feature_objective import FeatureObjective, Pairs
from kdlight.objectives.features.positions import valid_per_sample
from kdlight.objectives.features.sample_rows import POOLINGS, Pooling, sample_rows
from kdlight.objectives.inputs import LossInputs


class BatchObjective(FeatureObjective):
    """Compares relations between samples; a subclass defines `relation`.

    In training, the samples are those of all data-parallel ranks: the loss is that of one process
    with all of them. With gradient accumulation each micro-batch is compared by itself, and the
    loss of an optimizer step is their mean. In evaluation each rank compares its own samples, as
    ranks may have different numbers of batches.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`.
        pooling: how a feature becomes one row a sample: ``"mean"`` over positions without padding,
            ``"flatten"``, or ``"auto"``: the mean of ``(B, T, D)``, and all entries of a map.
        gather: compare the samples of all ranks.

    Example:
        >>> class Distance(BatchObjective):
        ...     def relation(self, student, teacher):
        ...         return (student.std(0) - teacher.std(0)).square().mean()
        >>> one, two = torch.randn(4, 8), torch.ones(4, 8)
        >>> inputs = LossInputs(one, two, student_features={"a": one}, teacher_features={"b": one})
        >>> Distance({"a": "b"})(inputs).mean()
        tensor(0.)
    """

    def __init__(self, pairs: Pairs, *, pooling: Pooling = "auto", gather: bool = True) -> None:
        super().__init__(pairs)
        check_choice("pooling", pooling, POOLINGS)
        self.pooling: Pooling = pooling
        self.gather = bool(gather)

    def relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of a batch of rows, ``(B, D_s), (B, D_t) -> ()``."""
        raise NotImplementedError(f"{type(self).__name__} does not define relation()")

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        """Return the loss of all samples, times the number of valid positions of this rank."""
        path = list(self.paths)[pair]
        ours, theirs = sample_rows(student, teacher, inputs, path, self.pooling)
        count = int(valid_per_sample(inputs).sum())
        rows, counts, width, other = exchange_sizes(
            (len(ours), count, ours.shape[1], theirs.shape[1]),
            ours.device,
            distributed=self.gather and self.training,
            group=inputs.group,
        )
        if len({*width.counts}) > 1 or len({*other.counts}) > 1:
            raise ValueError(
                f"the features paired with {path!r} have rows of different widths on the ranks:"
                f" {width.counts} and {other.counts}; set pooling='mean'"
            )
        with torch.autocast(ours.device.type, enabled=False):
            value = self.relation(gather_rows(ours, rows), gather_rows(theirs, rows))
        # the value is the share of this rank; the gradient is that of the whole loss in its rows
        return count * value.detach() + counts.total * (value - value.detach())
