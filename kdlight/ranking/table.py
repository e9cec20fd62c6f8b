"""The result of a ranking."""

from __future__ import annotations

from typing import NamedTuple


class RankedStudent(NamedTuple):
    """The score of a student, averaged over its initializations.

    Attributes:
        name: name of the student.
        score: minus the sum of both distances; 0 is the highest possible score.
        std: standard deviation of the score over the initializations; 0 for one.
        semantic: mean distance of the correlations of classes.
        relation: mean distance of the similarities of samples.
        parameters: number of parameters.
        repeats: number of initializations.

    Example:
        >>> RankedStudent("small", -0.5, 0.1, 0.2, 0.3, 1000, 5).score
        -0.5
    """

    name: str
    score: float
    std: float
    semantic: float
    relation: float
    parameters: int
    repeats: int


class Ranking(list[RankedStudent]):
    """Ranked students, the best one first. As a text it is a table.

    Example:
        >>> print(Ranking([RankedStudent("small", -0.5, 0.1, 0.2, 0.3, 1000, 5)]))
        | student | score | std | semantic | relation | parameters | repeats |
        | :-- | --: | --: | --: | --: | --: | --: |
        | small | -0.5000 | 0.1000 | 0.2000 | 0.3000 | 1,000 | 5 |
    """

    def __str__(self) -> str:
        """Return a table with a line for each student."""
        lines = [
            f"| {each.name} | {each.score:.4f} | {each.std:.4f} | {each.semantic:.4f} |"
            f" {each.relation:.4f} | {each.parameters:,} | {each.repeats} |"
            for each in self
        ]
        head = "| student | score | std | semantic | relation | parameters | repeats |"
        return "\n".join([head, "| :-- |" + " --: |" * 6, *lines])
