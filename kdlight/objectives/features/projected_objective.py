"""The base of objectives that project features of the student to the width of the teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from kdlight.objectives.features.feature_objective import FeatureObjective, Pairs
from kdlight.objectives.features.projector import (
    Projector,
    check_projector,
    make_projector,
    projected,
)
from kdlight.sources import Dense, Projected


class ProjectedObjective(FeatureObjective):
    """A `FeatureObjective` with a projector for each pair, made to size by `bind`.

    The projectors belong to the objective: they are trained and saved with it, and are no part of
    the student.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`.
        projector: ``"linear"`` trains a linear map of the student's features without a bias;
            ``"auto"`` does so where the widths differ; ``"none"``; or a function from both widths
            to a network, which reads ``(..., D)``.
        sizes: widths of student and teacher; None if their modules tell.

    Raises:
        ValueError: an unknown ``projector``; ``sizes`` are not two integers above 0.

    Example:
        >>> objective = ProjectedObjective({"": ""})
        >>> objective.bind(nn.Linear(2, 3), nn.Linear(2, 5))
        >>> objective.projectors[0]
        Linear(in_features=3, out_features=5, bias=False)
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        projector: Projector = "auto",
        sizes: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(pairs)
        check_projector(projector, sizes)
        self.projector: Projector = projector
        self.sizes = None if sizes is None else (sizes[0], sizes[1])
        self.projectors = nn.ModuleList()

    def bind(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Find the paths in both networks, and make the projectors, once."""
        super().bind(student, teacher)
        assert teacher is not None
        if not self.projectors:
            self.projectors.extend(
                make_projector(self.projector, self.sizes, student, teacher, pair)
                for pair in self.paths.items()
            )

    def project(self, feature: Tensor, pair: int) -> Dense | Projected:
        """Return a feature of the student, with its channels last, as a source of projected rows.

        Raises:
            ValueError: the projector was made for another width.
        """
        projector = self.projectors[pair] if self.projectors else nn.Identity()
        return projected(projector, feature, list(self.paths)[pair])
