"""Where in an objective a learned ratio is."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from kdlight.objectives import Weighted
from kdlight.objectives.fusion.tgeo_kd import TGeoKD


class FusionTerm(NamedTuple):
    """The `TGeoKD` of an objective, and the names of the terms that lead to it."""

    fusion: TGeoKD
    owners: tuple[tuple[Weighted, str], ...]

    def weight(self) -> float:
        """Return the weight of the term, which callbacks may have changed."""
        weight = 1.0
        for owner, name in self.owners:
            weight *= owner.weights[name]
        return weight


def fusion_term(objective: nn.Module) -> FusionTerm:
    """Find the one `TGeoKD` of an objective.

    Raises:
        ValueError: There is none, or several, or it is in something else than a `Weighted`.

    Example:
        >>> from kdlight.objectives import CrossEntropy
        >>> both = Weighted({"fused": TGeoKD(), "ce": CrossEntropy()}, weights={"fused": 0.5})
        >>> fusion_term(both).weight()
        0.5
    """
    found = [each for each in objective.modules() if isinstance(each, TGeoKD)]
    if len(found) != 1:
        raise ValueError(
            "BilevelUpdate trains the ratio of a kdlight.objectives.TGeoKD, and needs one in the"
            f" objective, alone or in a Weighted; {len(found) or 'none'} found in the objective, a"
            f" {type(objective).__name__}"
        )
    reached = _reached(objective)
    if reached is None:
        raise ValueError(
            "BilevelUpdate must know the weight of TGeoKD in the loss, which it does alone or as a"
            f" term of a Weighted; got it inside of a {type(objective).__name__}"
        )
    return reached


def _reached(objective: nn.Module) -> FusionTerm | None:
    if isinstance(objective, TGeoKD):
        return FusionTerm(objective, ())
    if isinstance(objective, Weighted):
        for name, term in objective.terms.items():
            inner = _reached(term)
            if inner is not None:
                return FusionTerm(inner.fusion, ((objective, name), *inner.owners))
    return None
