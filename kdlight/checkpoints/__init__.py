"""Checkpoints of any kind, read and checked: a single file, or a folder of shards."""

from kdlight.checkpoints.checksums import verify_checksums
from kdlight.checkpoints.fitting import (
    FORMAT,
    Shapes,
    check_format,
    check_weights,
    shapes,
)
from kdlight.checkpoints.loading import check_before_loading
from kdlight.checkpoints.reading import (
    META,
    check_complete,
    is_readable,
    read_checkpoint,
    read_metadata,
    read_remote,
    weight_shapes,
)
from kdlight.checkpoints.saving import failed_write, name_failed_writes
from kdlight.checkpoints.trust import check_trusted, named_code
from kdlight.checkpoints.writable import check_writable, writable_folder

__all__ = [
    "FORMAT",
    "META",
    "Shapes",
    "check_before_loading",
    "check_complete",
    "check_format",
    "check_trusted",
    "check_weights",
    "check_writable",
    "failed_write",
    "is_readable",
    "name_failed_writes",
    "named_code",
    "read_checkpoint",
    "read_metadata",
    "read_remote",
    "shapes",
    "verify_checksums",
    "weight_shapes",
    "writable_folder",
]
