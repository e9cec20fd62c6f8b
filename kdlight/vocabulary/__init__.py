"""Teachers with another vocabulary, aligned by token id and string."""

from __future__ import annotations

from kdlight.vocabulary.aligned_teacher import AlignedTeacher, read_tokens
from kdlight.vocabulary.alignment import align

__all__ = ["AlignedTeacher", "align", "read_tokens"]
