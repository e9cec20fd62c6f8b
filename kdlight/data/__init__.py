"""Batches: Lightning data modules, and which label stands at which position.

Names resolve when they are first asked for: the labels of a batch need torch alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdlight.data.digits import DigitsDataModule
    from kdlight.data.documents import read_documents
    from kdlight.data.packing import Blocks
    from kdlight.data.targets import batch_labels, next_token_labels
    from kdlight.data.teacher_tokens import TeacherTokens
    from kdlight.data.text import TextDataModule
    from kdlight.data.traces.module import TracesDataModule
    from kdlight.data.traces.readers import read_traces
    from kdlight.data.traces.record import Trace
    from kdlight.data.two_tokenizers import TwoTokenizers
    from kdlight.data.two_tokenizers_text import TwoTokenizersDataModule

__all__ = [
    "Blocks",
    "DigitsDataModule",
    "TeacherTokens",
    "TextDataModule",
    "Trace",
    "TracesDataModule",
    "TwoTokenizers",
    "TwoTokenizersDataModule",
    "batch_labels",
    "next_token_labels",
    "read_documents",
    "read_traces",
]

_HOME = {
    "Blocks": "packing",
    "DigitsDataModule": "digits",
    "TeacherTokens": "teacher_tokens",
    "TextDataModule": "text",
    "Trace": "traces.record",
    "TracesDataModule": "traces.module",
    "TwoTokenizers": "two_tokenizers",
    "TwoTokenizersDataModule": "two_tokenizers_text",
    "batch_labels": "targets",
    "next_token_labels": "targets",
    "read_documents": "documents",
    "read_traces": "traces.readers",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'kdlight.data' has no attribute {name!r}")
        value = getattr(import_module(f"kdlight.data.{_HOME[name]}"), name)
        globals()[name] = value
        return value
