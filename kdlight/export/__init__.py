"""Exports of a student for use without kdlight, from memory or from a checkpoint."""

from kdlight.export.checkpoint import export_checkpoint
from kdlight.export.rebuilt_module import build_module
from kdlight.export.student import check_directory, check_exportable, export_student
from kdlight.export.trained_network import describe_module, describe_network, find_network

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
