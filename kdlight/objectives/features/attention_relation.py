"""Relations between the tokens of a sequence within an attention layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from kdlight.checks import check_choice, check_integer
from kdlight.features import LayerMapping
from kdlight.losses.features.attention_relation import attention_relation
from kdlight.objectives.features.feature_objective import FeatureObjective, Pairs
from kdlight.objectives.features.positions import (
    position_weights,
    unpadded_positions,
    valid_positions,
)
from kdlight.objectives.inputs import LossInputs


class AttentionRelation(FeatureObjective):
    """Self-attention relations of queries, keys and values, `kdlight.losses.attention_relation`.

    Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing
    Pretrained Transformers", 2021, Eq. 5 to 7; Xu et al., "Few-Shot Task-Agnostic Neural
    Architecture Search for Distilling Large Language Models", 2022. Choose it for transformers of
    different widths: relations are ``(T, T)`` on both sides, so no projector is needed. They are
    made of the projections, so it does not matter how a model computes attention (eager, SDPA,
    FlashAttention), and grouped heads need no repetition. Where a model rotates positions, the
    projections are those before the rotation.

    The loss is the mean over all pairs of projections; that of MiniLMv2 is their sum, so a weight
    of 3 makes both equal for queries, keys and values of one layer. Every token but padding is a
    key; the queries are the valid positions.

    Args:
        pairs: the attention layer of the teacher for each one of the student, see
            `kdlight.objectives.FeatureObjective`. MiniLMv2 pairs the last layer with one of the
            upper layers.
        parts: names of the projections in an attention layer, such as ``("query", "key",
            "value")`` of BERT.
        teacher_parts: those of the teacher; None if they are the same.
        heads: number of relation heads, which divides the width of each projection.
        kind: ``"kl"`` or ``"mse"``.
        causal: a token is compared with itself and earlier ones only.

    Raises:
        ValueError: ``parts`` is empty, or both have different lengths; ``heads`` is below 1; an
            unknown ``kind``.
        TypeError: ``parts`` is a string; ``heads`` is no integer.

    Example:
        >>> from kdlight.objectives import LossInputs
        >>> x, part = torch.zeros(2, 5, 7), torch.randn(2, 5, 8)
        >>> objective = AttentionRelation({"a": "b"}, parts=("q",), heads=2)
        >>> features = {"student_features": {"a.q": part}, "teacher_features": {"b.q": part}}
        >>> round(objective(LossInputs(x, x, **features)).mean().item(), 6)
        0.0
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        parts: Sequence[str] = ("q_proj", "k_proj", "v_proj"),
        teacher_parts: Sequence[str] | None = None,
        heads: int = 12,
        kind: Literal["kl", "mse"] = "kl",
        causal: bool = False,
    ) -> None:
        super().__init__(pairs)
        for name, value in (("parts", parts), ("teacher_parts", teacher_parts)):
            if isinstance(value, str):
                raise TypeError(f"{name} must be a sequence of names, got {value!r}")
        self.parts = tuple(parts)
        self.teacher_parts = self.parts if teacher_parts is None else tuple(teacher_parts)
        if not self.parts or len(self.parts) != len(self.teacher_parts):
            raise ValueError(
                "parts and teacher_parts must name equally many projections, at least one, got"
                f" {self.parts} and {self.teacher_parts}"
            )
        check_integer("heads", heads, 1)
        check_choice("kind", kind, ("kl", "mse"))
        self.heads, self.causal = heads, bool(causal)
        self.kind: Literal["kl", "mse"] = kind
        if not isinstance(self.pairs, LayerMapping):
            self.pairs = self.expanded(self.pairs)

    def expanded(self, pairs: Mapping[str, str]) -> dict[str, str]:
        """Return the paths of all projections of the attention layers."""
        return {
            f"{ours}.{part}": f"{theirs}.{other}"
            for ours, theirs in pairs.items()
            for part, other in zip(self.parts, self.teacher_parts, strict=True)
        }

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        """Return the sum over tokens of the loss of their relations."""
        path = list(self.paths)[pair]
        if student.dim() != 3 or student.shape[:2] != teacher.shape[:2]:
            raise ValueError(
                f"the features of {path!r} must be (B, T, D) with the same tokens, got"
                f" {tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        positions = student.shape[:2]
        with torch.autocast(student.device.type, enabled=False):
            values = attention_relation(
                student,
                teacher,
                heads=self.heads,
                kind=self.kind,
                mask=unpadded_positions(inputs, path, positions),
                causal=self.causal,
            )
        mask = valid_positions(inputs, path, positions)
        weights = position_weights(inputs, path, positions, mask, values.dtype)
        if mask is not None:
            values = values.masked_fill(~mask, 0.0)
        return (values if weights is None else values * weights).sum()
