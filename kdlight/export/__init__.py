"""Exports of a student for use without kdlight, from memory or from a checkpoint."""

from kdlight.export.checkpoint import (
    build_module,
    describe_module,
    describe_network,
    export_checkpoint,
    find_network,
)
from kdlight.export.student import check_directory, check_exportable, export_student

__all__ = [
    "build_module",
    "check_directory",
    "check_exportable",
    "describe_module",
    "describe_network",
    "export_checkpoint",
    "export_student",
    "find_network",
]
