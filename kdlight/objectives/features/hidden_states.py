"""Hidden states of the student, projected to the width of the teacher, against the teacher's."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import Tensor

from kdlight.checks import check_choice, check_integer
from kdlight.losses.features.feature_distance import KINDS, feature_distance
from kdlight.objectives.features.channels import channels_last, check_channels
from kdlight.objectives.features.feature_objective import Pairs
from kdlight.objectives.features.positions import position_weights, valid_positions
from kdlight.objectives.features.projected_objective import ProjectedObjective
from kdlight.objectives.features.projector import Projector
from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import token_sum
from kdlight.sources import Dense
from kdlight.sources.base import select_rows


class HiddenStates(ProjectedObjective):
    r"""The distance of hidden states, `kdlight.losses.feature_distance`, position by position.

    .. math:: L = \frac{1}{K} \sum_{k=1}^{K} d(W_k h^S_k, h^T_k)

    Romero et al., "FitNets: Hints for Thin Deep Nets", 2015; Jiao et al., "TinyBERT: Distilling
    BERT for Natural Language Understanding", 2020, Eq. 8. Choose it in addition to a divergence of
    the logits, where student and teacher are built alike.

    A feature that has the positions of the logits, such as the tokens of a language model, is
    masked and counted like them. For other features (a map where an image has one label, tokens
    where a text has one) the mean over the positions of a sample, without padding, counts as that
    sample.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`.
        kind: ``"mse"``, ``"smooth_l1"``, ``"cosine"`` or ``"normalized_mse"``.
        projector: ``"linear"`` trains a linear map W of the student's features without a bias;
            ``"auto"`` does so where the widths differ; ``"none"``; or a function from both widths
            to a network, which reads ``(..., D)``. Projectors are trained and saved with the
            objective, and are no part of the student.
        sizes: widths of student and teacher; None if their modules tell.
        channel_dim: axis of the channels; None for the last one, and axis 1 of features with four
            axes or more.

    Raises:
        ValueError: an unknown ``kind`` or ``projector``; ``sizes`` are not two integers above 0.
        TypeError: ``channel_dim`` is no integer.

    Example:
        >>> import torch
        >>> one, two = torch.zeros(4, 8), torch.ones(4, 8)
        >>> inputs = LossInputs(one, two, student_features={"a": one}, teacher_features={"b": two})
        >>> HiddenStates({"a": "b"})(inputs).mean()
        tensor(1.)
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        kind: Literal["mse", "smooth_l1", "cosine", "normalized_mse"] = "mse",
        projector: Projector = "auto",
        sizes: tuple[int, int] | None = None,
        channel_dim: int | None = None,
    ) -> None:
        super().__init__(pairs, projector=projector, sizes=sizes)
        check_choice("kind", kind, KINDS)
        if channel_dim is not None:
            check_integer("channel_dim", channel_dim)
        self.kind: Literal["mse", "smooth_l1", "cosine", "normalized_mse"] = kind
        self.channel_dim = channel_dim

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        """Return the sum over positions of their distance."""
        ours, theirs = (channels_last(each, self.channel_dim) for each in (student, teacher))
        path = list(self.paths)[pair]
        if ours.shape[:-1] != theirs.shape[:-1]:
            raise ValueError(
                f"the feature {path!r} of the student has positions {tuple(ours.shape[:-1])}, and"
                f" that of the teacher {tuple(theirs.shape[:-1])}; choose paths of the same"
                " resolution"
            )
        positions = ours.shape[:-1]
        mask = valid_positions(inputs, path, positions)
        weights = position_weights(inputs, path, positions, mask, ours.dtype)
        # selected before they are projected: what is masked must not reach a projector's gradient
        index = None if mask is None else mask.flatten().nonzero().squeeze(-1)
        source = self.project(select_rows(ours, index), pair)
        check_channels(source.shape[-1], theirs.shape[-1], path)
        return token_sum(
            partial(_distance, self.kind),
            source,
            Dense(select_rows(theirs, index)),
            weights=None if weights is None else select_rows(weights.unsqueeze(-1), index)[:, 0],
            chunked=inputs.chunked,
        ).total


def _distance(kind: Any, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
    return feature_distance(student, teacher, kind=kind)
