"""Lightning data modules, and the labels of a batch aligned with its logits.

Names are imported when they are first used: the labels of a batch need torch alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlight.lazy import lazy_exports

if TYPE_CHECKING:
    from kdlight.data.digits import DigitsDataModule as DigitsDataModule
    from kdlight.data.divided_positions import PositionShares as PositionShares
    from kdlight.data.divided_positions import divide_positions as divide_positions
    from kdlight.data.docstrings_module import DocstringsDataModule as DocstringsDataModule
    from kdlight.data.documents import read_documents as read_documents
    from kdlight.data.domains.domain_module import DomainDataModule as DomainDataModule
    from kdlight.data.domains.domain_sampler import DomainSampler as DomainSampler
    from kdlight.data.packing import Blocks as Blocks
    from kdlight.data.targets import batch_labels as batch_labels
    from kdlight.data.targets import next_token_labels as next_token_labels
    from kdlight.data.teacher_tokens import TeacherTokens as TeacherTokens
    from kdlight.data.text import TextDataModule as TextDataModule
    from kdlight.data.tones import TonesDataModule as TonesDataModule
    from kdlight.data.traces.module import TracesDataModule as TracesDataModule
    from kdlight.data.traces.readers import read_traces as read_traces
    from kdlight.data.traces.sums_module import SumsDataModule as SumsDataModule
    from kdlight.data.traces.trace import Trace as Trace
    from kdlight.data.two_tokenizers import TwoTokenizers as TwoTokenizers
    from kdlight.data.two_tokenizers_module import (
        TwoTokenizersDataModule as TwoTokenizersDataModule,
    )
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)
