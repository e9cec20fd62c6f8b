"""The base of objectives that compare features of student and teacher, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from kdlight.features import LayerMapping, find_module
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import Loss

Pairs: TypeAlias = "LayerMapping | Mapping[str, str]"
"""The path of the teacher's feature for each path of the student's, or a rule that chooses them."""


class FeatureObjective(Objective):
    r"""Compares features of both networks: the mean of a loss over pairs of paths.

    A module captures the features that its objective asks for, in the same forward passes that
    compute the logits. A subclass defines `pair_loss`, the sum over samples of the loss of one
    pair, each sample weighted by the number of its valid positions among the logits. So the loss
    counts what an objective on logits counts, and `Weighted` adds both up.

    Args:
        pairs: the path of a feature of the teacher for each path of the student, see
            `kdlight.features.FeaturePath`; or a `kdlight.features.LayerMapping`.

    Raises:
        ValueError: there are no pairs.
        TypeError: they are neither a mapping of strings nor a `LayerMapping`.

    Example:
        >>> class Distance(FeatureObjective):
        ...     def pair_loss(self, student, teacher, inputs, pair):
        ...         return (student - teacher).square().mean(-1).sum()
        >>> one, two = torch.zeros(4, 8), torch.ones(4, 8)
        >>> inputs = LossInputs(one, two, student_features={"a": one}, teacher_features={"b": two})
        >>> Distance({"a": "b"})(inputs).mean()
        tensor(1.)
    """

    uses_probabilities = False

    def __init__(self, pairs: Pairs) -> None:
        super().__init__()
        self.pairs = _checked(pairs)
        self.layers = self.pairs if isinstance(self.pairs, LayerMapping) else None

    @property
    def paths(self) -> dict[str, str]:
        """The pairs of paths.

        Raises:
            ValueError: a `LayerMapping` has not been applied to networks yet, see `bind`.
        """
        if isinstance(self.pairs, LayerMapping):
            raise ValueError(
                f"the layers of {self.pairs} are not known before bind(student, teacher), which a"
                " module calls"
            )
        return dict(self.pairs)

    def bind(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Find the paths in both networks.

        Raises:
            ValueError: there is no live teacher, a path leads to no module, or the objective was
                bound to networks with other layers before.
        """
        super().bind(student, teacher)
        if teacher is None:
            raise ValueError(
                f"{type(self).__name__} compares features, which are inside a live network, but the"
                " teacher has none; pass a network or a kdlight.FrozenTeacher"
            )
        if self.layers is not None:
            found = self.expanded(self.layers.pairs(student, teacher))
            if not isinstance(self.pairs, LayerMapping) and found != self.pairs:
                raise ValueError(
                    f"{type(self).__name__} with {self.layers} is used for networks with other"
                    " layers than before; create an objective for each module"
                )
            self.pairs = found
        for ours, theirs in self.paths.items():
            find_module(student, ours)
            find_module(teacher, theirs)

    def expanded(self, pairs: dict[str, str]) -> dict[str, str]:
        """Return the paths of features for pairs of layers; the same paths by default."""
        return pairs

    def check(self, inputs: LossInputs) -> None:
        """Check that everything needed is present, and that the mask is one of the logits."""
        super().check(inputs)
        positions = inputs.student.shape[:-1]
        if inputs.mask is not None and inputs.mask.shape != positions:
            raise ValueError(
                f"mask must have the positions of the logits, {tuple(positions)}, got"
                f" {tuple(inputs.mask.shape)}"
            )

    def forward(self, inputs: LossInputs) -> Loss:
        """Return the mean over pairs of `pair_loss`, and the number of valid positions."""
        self.check(inputs)
        totals = [
            self.pair_loss(student, teacher, inputs, pair)
            for pair, (student, teacher) in enumerate(self._features(inputs))
        ]
        count = inputs.valid_count().to(totals[0].device)
        return Loss(torch.stack(totals).mean(), count)

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        """Return the loss of one pair, summed over samples, ``(B, ...), (B, ...) -> ()``.

        Args:
            student: feature of the student.
            teacher: feature of the teacher, on the same device, without a graph.
            inputs: everything else.
            pair: the position of the pair.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define pair_loss()")

    def _features(self, inputs: LossInputs) -> Iterator[tuple[Tensor, Tensor]]:
        for ours, theirs in self.paths.items():
            student = _feature("student", ours, inputs.student_features)
            teacher = _feature("teacher", theirs, inputs.teacher_features)
            if student.shape[:1] != teacher.shape[:1]:
                raise ValueError(
                    f"the features {ours!r} {tuple(student.shape)} and {theirs!r}"
                    f" {tuple(teacher.shape)} are of different numbers of samples"
                )
            yield student, teacher.detach().to(student.device)


def feature_paths(objective: nn.Module) -> tuple[dict[str, None], dict[str, None]]:
    """Return the paths that an objective and those in it read: the student's, the teacher's.

    Example:
        >>> student, teacher = feature_paths(FeatureObjective({"a": "b", "c": "b"}))
        >>> list(student), list(teacher)
        (['a', 'c'], ['b'])
    """
    student: dict[str, None] = {}
    teacher: dict[str, None] = {}
    for part in objective.modules():
        if isinstance(part, FeatureObjective):
            student |= dict.fromkeys(part.paths)
            teacher |= dict.fromkeys(part.paths.values())
        if isinstance(part, Objective):
            student |= dict.fromkeys(part.student_paths)
    return student, teacher


def _feature(side: str, path: str, features: Mapping[str, Tensor] | None) -> Tensor:
    if features is None or path not in features:
        raise ValueError(
            f"the inputs have no feature {path!r} of the {side}; a kdlight module captures it, and"
            f" without one pass {side}_features={{{path!r}: ...}}"
        )
    return features[path]


def _checked(pairs: Any) -> Pairs:
    if isinstance(pairs, LayerMapping):
        return pairs
    if not isinstance(pairs, Mapping) or not all(
        isinstance(each, str) for pair in pairs.items() for each in pair
    ):
        raise TypeError(
            "pairs must map paths of the student to paths of the teacher, such as {'layers.1':"
            f" 'layers.3'}}, or be a kdlight.features.LayerMapping, got {pairs!r}"
        )
    if not pairs:
        raise ValueError("pairs is empty; give at least one pair of paths")
    return dict(pairs)
