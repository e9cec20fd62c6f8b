"""Students ranked before any of them is trained."""

from __future__ import annotations

from kdlight.ranking.rank_students import rank_students
from kdlight.ranking.table import RankedStudent, Ranking

__all__ = ["RankedStudent", "Ranking", "rank_students"]
