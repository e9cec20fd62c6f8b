"""Teachers with another vocabulary: which token id is which."""

from __future__ import annotations

from kdlight.vocabulary.align import align
from kdlight.vocabulary.teacher import AlignedTeacher, read_tokens

__all__ = ["AlignedTeacher", "align", "read_tokens"]
