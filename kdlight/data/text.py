"""Text for a causal language model, in packed blocks of tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from torch import Tensor

from kdlight.checks import check_integer, check_type
from kdlight.data.documents import read_documents
from kdlight.data.files import file_names
from kdlight.data.hub import HUB
from kdlight.data.packing import Blocks, encode
from kdlight.data.spans import SpanIds, WithSpans
from kdlight.data.split_module import SplitDataModule
from kdlight.data.splits import check_validation_fraction, shuffle, split_documents
from kdlight.models.pretrained import as_tokenizer


class TextDataModule(SplitDataModule):
    """English text in blocks of tokens, split by document into training and validation.

    The data are a function of the arguments: every process reads and splits them alike, and the
    order of an epoch depends only on ``seed`` and the number of the epoch. Batches are dicts of
    ``input_ids`` and ``labels``, ``(batch_size, block_size)``, with labels that are not shifted.
    The test set is the validation set.

    Args:
        tokenizer: location of the tokenizer, like the ``source`` of a `kdlight.CausalLM`; or a
            tokenizer.
        files: texts, see `kdlight.data.read_documents`: paths, globs, ``hf:NAME``. None for the
            documentation of Python's standard library, which every machine has.
        validation_files: texts to validate on, instead of a part of ``files``.
        text_field: the field of a JSON line or dataset row that holds the text.
        block_size: number of tokens in a block.
        batch_size: number of blocks in a training batch.
        eval_batch_size: number of blocks in a validation batch; None for ``batch_size``.
        validation_fraction: fraction of the tokens to validate on, in whole documents.
        seed: seed of the split and of the order of the blocks.
        num_workers: number of worker processes; the blocks are in memory, so 0 is fast.
        max_tokens: use only the first documents, in random order, that hold this many tokens.
        spans: how to find the spans of a text, a name or a function, see
            `kdlight.data.span_finders.find_spans`; batches then hold aligned ``span_ids``. None for
            no spans.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of range; at setup, if a file is missing, empty or not
            text, or the text does not fill one training and one validation block.

    Example:
        >>> data = TextDataModule("HuggingFaceTB/SmolLM2-135M", block_size=64, batch_size=4)
        >>> data.block_size  # nothing is read before setup
        64
    """

    def __init__(
        self,
        tokenizer: str | Callable[..., Any],
        files: list[str] | str | None = None,
        *,
        validation_files: list[str] | str | None = None,
        text_field: str = "text",
        block_size: int = 128,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        max_tokens: int | None = None,
        spans: str | Callable[[str], list[tuple[int, int]]] | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        check_integer("block_size", block_size, 2)
        check_validation_fraction(validation_fraction)
        check_type("text_field", text_field, str, "a text")
        for name, value in (("files", files), ("validation_files", validation_files)):
            if value is not None:
                file_names(name, value)
        check_type("tokenizer", tokenizer, (str, Callable), "a location or a tokenizer")
        check_type("spans", spans, (str, Callable, type(None)), "a name, a function or None")
        if max_tokens is not None:
            check_integer("max_tokens", max_tokens)
            if max_tokens < block_size:
                raise ValueError(
                    f"max_tokens must be at least block_size={block_size}, got {max_tokens}"
                )
        self.tokenizer_source = tokenizer
        self.files = files
        self.validation_files = validation_files
        self.text_field = text_field
        self.block_size = block_size
        self.validation_fraction = validation_fraction
        self.max_tokens = max_tokens
        self.spans = spans
        self._documents: dict[str, int] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, loaded on first access."""
        return as_tokenizer(self.tokenizer_source)

    @cached_property
    def span_ids(self) -> SpanIds | None:
        """Computes the span ids of a sequence of tokens; None without ``spans``."""
        return None if self.spans is None else SpanIds(self.tokenizer, self.spans)

    def dataset(self, part: Blocks) -> Any:
        """Return the blocks, with their ``span_ids`` if there are ``spans``."""
        return part if self.span_ids is None else WithSpans(part, self.span_ids)

    def prepare_data(self) -> None:
        """Download datasets, in one process per machine."""
        for files in (self.files, self.validation_files):
            names = [files] if isinstance(files, str) else files or []
            hub_names = [name for name in names if name.startswith(HUB)]
            if hub_names:
                read_documents(hub_names, text_field=self.text_field)

    def load_parts(self) -> tuple[Blocks, Blocks]:
        """Read, split, encode and pack the text."""
        train, validation = self._split()
        self._documents = {
            "train_documents": len(train),
            "validation_documents": len(validation),
        }
        return (
            self._pack(train, "training", self.files),
            self._pack(validation, "validation", self.validation_files or self.files),
        )

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        texts = shuffle(read_documents(self.files, text_field=self.text_field), seed=self.seed)
        if self.validation_files is None:
            documents = encode(texts, self.tokenizer, limit=self.max_tokens)
            validation, train = split_documents(documents, fraction=self.validation_fraction)
            return train, validation
        validation_texts = read_documents(self.validation_files, text_field=self.text_field)
        excluded = set(validation_texts)
        texts = [text for text in texts if text not in excluded]
        train = encode(texts, self.tokenizer, limit=self.max_tokens)
        return train, encode(validation_texts, self.tokenizer)

    def _pack(self, documents: list[Tensor], part: str, files: Any) -> Blocks:
        blocks = Blocks(documents, block_size=self.block_size, padding=self.tokenizer.eos_token_id)
        if blocks.tokens < self.block_size:
            raise ValueError(
                f"files={files!r} leave {blocks.tokens} tokens in {len(documents)} documents for"
                f" {part}, less than one block of block_size={self.block_size}; use more text or"
                " smaller blocks, or set validation_files (a document is never divided between"
                " training and validation)"
            )
        return blocks

    @property
    def train_blocks(self) -> Blocks:
        """The training blocks."""
        return self.parts[0]

    @property
    def validation_blocks(self) -> Blocks:
        """The validation blocks, which are also the test blocks."""
        return self.parts[1]

    @property
    def summary(self) -> dict[str, int]:
        """Numbers of documents, tokens and blocks for training and validation."""
        return {
            "train_tokens": self.train_blocks.tokens,
            "validation_tokens": self.validation_blocks.tokens,
            "train_blocks": len(self.train_blocks),
            "validation_blocks": len(self.validation_blocks),
            **self._documents,
        }
