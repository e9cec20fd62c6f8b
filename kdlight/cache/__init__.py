"""A teacher's top-k logits on disk: written once, and read by the content of a sequence."""

from __future__ import annotations

from kdlight.cache.cached_teacher import CachedTeacher
from kdlight.cache.manifest import Manifest, read_manifest
from kdlight.cache.python_api import cache_teacher
from kdlight.cache.reader import CacheReader
from kdlight.cache.settings import Settings
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
