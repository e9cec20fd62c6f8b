"""Text for a student and a teacher with different tokenizers: documents in, passages out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from kdlight.data.documents import read_documents
from kdlight.data.padded import PaddedToWorldSize
from kdlight.data.loaders import EpochSampler, ResumableLoader
from kdlight.data.two_tokenizers import EncodedTwice, TwoTokenizers
from kdlight.models import load_tokenizer


class TwoTokenizersDataModule(LightningDataModule):
    """Passages of text, each in the tokens of both, split into training and validation by document.

    Batches are those of `TwoTokenizers`; the teacher reads its part through `TeacherTokens`.

    Args:
        tokenizer: of the student: where it is, like the ``source`` of a `kdlight.CausalLM`, or a
            tokenizer.
        teacher_tokenizer: of the teacher.
        files: texts, see `kdlight.data.read_documents`.
        text_field: the field of a JSON line or dataset row that holds the text.
        characters: of a passage, about: it ends with a word.
        max_length: tokens of a passage on either side.
        batch_size: passages of a batch.
        validation_fraction: part of the documents to validate on.
        seed: draws the validation documents and the order of the passages.
        num_workers: worker processes, which encode.

    Raises:
        ValueError: an argument out of range, or fewer than two documents.

    Example:
        >>> both = "HuggingFaceTB/SmolLM2-135M", "openai-community/gpt2"
        >>> data = TwoTokenizersDataModule(*both, characters=200)
        >>> data.characters  # nothing is read before setup
        200
    """

    def __init__(
        self,
        tokenizer: str | Callable[..., Any],
        teacher_tokenizer: str | Callable[..., Any],
        files: list[str] | str | None = None,
        *,
        text_field: str = "text",
        characters: int = 512,
        max_length: int = 256,
        batch_size: int = 8,
        validation_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 < validation_fraction < 1.0:
            raise ValueError(f"validation_fraction must be in (0, 1), got {validation_fraction}")
        for name, size in (("characters", characters), ("batch_size", batch_size)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.sources = (tokenizer, teacher_tokenizer)
        self.files = files
        self.text_field = text_field
        self.characters = characters
        self.max_length = max_length
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.num_workers = num_workers
        self._parts: tuple[EncodedTwice, EncodedTwice] | None = None

    @cached_property
    def collate(self) -> TwoTokenizers:
        """What makes batches, with both tokenizers, loaded when they are first needed."""
        both = [load_tokenizer(each) if isinstance(each, str) else each for each in self.sources]
        return TwoTokenizers(*both, max_length=self.max_length)

    def setup(self, stage: str | None = None) -> None:
        """Read and split the text, once."""
        if self._parts is not None:
            return
        texts = read_documents(self.files, text_field=self.text_field)
        if len(texts) < 2:
            raise ValueError(
                f"files={self.files!r} hold {len(texts)} documents, and documents are never divided"
                " between training and validation: give at least 2"
            )
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(texts), generator=generator).tolist()
        held_out = min(max(1, round(self.validation_fraction * len(texts))), len(texts) - 1)
        parts = [
            [each for index in some for each in passages(texts[index], self.characters)]
            for some in (order[held_out:], order[:held_out])
        ]
        self._parts = EncodedTwice(parts[0], self.collate), EncodedTwice(parts[1], self.collate)

    def train_dataloader(self) -> DataLoader:
        """Training passages, in an order of their own every epoch."""
        self.setup()
        assert self._parts is not None
        data = self._parts[0]
        return ResumableLoader(
            data,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(data), seed=self.seed),
            num_workers=self.num_workers,
            collate_fn=self.collate,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def val_dataloader(self) -> DataLoader:
        """Validation passages, in order."""
        self.setup()
        assert self._parts is not None
        ranks = (self.trainer and self.trainer.distributed_sampler_kwargs) or {}
        return DataLoader(
            PaddedToWorldSize(self._parts[1], ranks=ranks.get("num_replicas", 1)),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=self.collate,
            generator=torch.Generator().manual_seed(0),
        )

    def test_dataloader(self) -> DataLoader:
        """The validation passages."""
        return self.val_dataloader()


def passages(text: str, characters: int) -> list[str]:
    """Pieces of about so many characters, none of which ends inside a word.

    >>> passages("to be or not to be", 8)
    ['to be or', ' not to', ' be']
    """
    pieces, start = [], 0
    while start < len(text):
        end = start + characters
        if end < len(text) and not text[end].isspace():
            space = text.rfind(" ", start + 1, end)
            end = space if space > start else end
        pieces.append(text[start:end])
        start = end
    return [piece for piece in pieces if piece.strip()]
