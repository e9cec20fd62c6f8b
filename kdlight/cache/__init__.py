"""The teacher on disk: its answers written once, and read by the content of a sequence."""

from __future__ import annotations

from kdlight.cache.manifest import Manifest, read_manifest
from kdlight.cache.reader import CacheReader
from kdlight.cache.settings import Settings
from kdlight.cache.teacher import CachedTeacher
from kdlight.cache.write import cache_teacher
from kdlight.cache.writer import CacheWriter

__all__ = [
    "CacheReader",
    "CacheWriter",
    "CachedTeacher",
    "Manifest",
    "Settings",
    "cache_teacher",
    "read_manifest",
]
