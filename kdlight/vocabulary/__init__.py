"""Teachers with another vocabulary: which id is which, and what of the ids that one side lacks."""

from __future__ import annotations

from kdlight.vocabulary.align import Alignment, align
from kdlight.vocabulary.source import Aligned, limited
from kdlight.vocabulary.teacher import AlignedTeacher, read_tokens

__all__ = ["Aligned", "AlignedTeacher", "Alignment", "align", "limited", "read_tokens"]
