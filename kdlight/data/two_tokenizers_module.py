"""Passages of text for a student and a teacher with different tokenizers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from kdlight.checks import check_integer, check_type
from kdlight.data.context_check import check_contexts
from kdlight.data.documents import read_documents
from kdlight.data.files import file_names
from kdlight.data.split_module import SplitDataModule
from kdlight.data.splits import check_validation_fraction, shuffle
from kdlight.data.two_tokenizers import EncodedTwice, TwoTokenizers
from kdlight.models.pretrained import as_tokenizer


class TwoTokenizersDataModule(SplitDataModule):
    """Passages of text for two tokenizers, split by document into training and validation.

    Batches are those of `TwoTokenizers`. The teacher reads its entries through `TeacherTokens`.

    Args:
        tokenizer: the student's tokenizer: its location, like the ``source`` of a
            `kdlight.CausalLM`, or a tokenizer.
        teacher_tokenizer: the teacher's tokenizer.
        files: texts, see `kdlight.data.read_documents`.
        text_field: the field of a JSON line or dataset row that holds the text.
        characters: approximate number of characters of a passage; a passage ends with a word.
        max_length: maximal number of tokens of a passage for either model.
        batch_size: number of passages in a batch.
        validation_fraction: fraction of the documents to validate on.
        seed: seed of the split and of the order of the passages.
        num_workers: number of worker processes, which encode.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of range; at setup, if there are fewer than two documents,
            or a passage is longer than the context of the student or the teacher.

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
        super().__init__(batch_size=batch_size, seed=seed, num_workers=num_workers)
        check_validation_fraction(validation_fraction)
        check_integer("characters", characters, 1)
        check_integer("max_length", max_length, 2)
        check_type("text_field", text_field, str, "a text")
        for name, value in (("tokenizer", tokenizer), ("teacher_tokenizer", teacher_tokenizer)):
            check_type(name, value, (str, Callable), "a location or a tokenizer")
        if files is not None:
            file_names("files", files)
        self.sources = (tokenizer, teacher_tokenizer)
        self.files = files
        self.text_field = text_field
        self.characters = characters
        self.max_length = max_length
        self.validation_fraction = validation_fraction

    @cached_property
    def collate(self) -> TwoTokenizers:
        """The collator with both tokenizers, loaded on first access."""
        return TwoTokenizers(*map(as_tokenizer, self.sources), max_length=self.max_length)

    def collate_fn(self) -> TwoTokenizers:
        """Return the collator of both tokenizers."""
        return self.collate

    def setup(self, stage: str | None = None) -> None:
        """Load the data, once, and check that passages fit into the contexts of the networks."""
        super().setup(stage)
        check_contexts(
            self.trainer,
            lambda name: self._longest["teacher" if name == "teacher" else "student"],
            what="the longest passage",
            argument="max_length",
            limit=self.max_length,
        )

    @cached_property
    def _longest(self) -> dict[str, int]:
        assert self._parts is not None
        lengths = [part.longest() for part in self._parts]
        return {name: max(each[name] for each in lengths) for name in ("student", "teacher")}

    def load_parts(self) -> tuple[EncodedTwice, EncodedTwice]:
        """Read and split the text."""
        texts = read_documents(self.files, text_field=self.text_field)
        if len(texts) < 2:
            raise ValueError(
                f"files={self.files!r} must hold at least 2 documents, one to train and one to"
                f" validate on, got {len(texts)}"
            )
        validation_size = max(1, round(self.validation_fraction * len(texts)))
        validation_size = min(validation_size, len(texts) - 1)
        texts = shuffle(texts, seed=self.seed)
        parts = (texts[validation_size:], texts[:validation_size])
        train, validation = (
            [passage for text in part for passage in split_passages(text, self.characters)]
            for part in parts
        )
        return EncodedTwice(train, self.collate), EncodedTwice(validation, self.collate)


def split_passages(text: str, characters: int) -> list[str]:
    """Split a text into passages of about ``characters`` characters, never inside a word.

    Example:
        >>> split_passages("to be or not to be", 8)
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
