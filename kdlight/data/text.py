"""Text for a causal language model: documents in, packed blocks out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight.data.documents import HUB, read_documents
from kdlight.data.loaders import eval_loader, train_loader
from kdlight.data.packing import Blocks, encode, split_documents
from kdlight.data.spans import SpanIds, WithSpans
from kdlight.models import load_tokenizer


class TextDataModule(LightningDataModule):
    """English text in blocks of tokens, split into training and validation by document.

    Everything is a function of the arguments: each process reads and splits the same way, and the
    order of an epoch depends on ``seed`` and the epoch only. Batches are dicts of ``input_ids`` and
    ``labels``, ``(batch_size, block_size)``, labels unshifted. The test set is the validation set.

    Args:
        tokenizer: where the tokenizer is, spelled like the ``source`` of a `kdlight.CausalLM`; or
            a tokenizer.
        files: texts, see `kdlight.data.read_documents`: paths, globs, ``hf:NAME``. None for the
            standard library's own documentation, which every machine has.
        validation_files: texts to validate on, instead of a part of ``files``.
        text_field: the field of a JSON line or dataset row that holds the text.
        block_size: tokens of a block.
        batch_size: blocks of a training batch.
        eval_batch_size: blocks of a validation batch; None for ``batch_size``.
        validation_fraction: part of the tokens to validate on, in whole documents.
        seed: draws the validation documents and the order of the blocks.
        num_workers: worker processes; the blocks lie in memory, so 0 is quick.
        max_tokens: stop reading documents, in the order drawn, when they hold as many tokens.
        spans: how to find the spans of a text, a name or a function, see
            `kdlight.data.span_finders.find`; batches then hold aligned ``span_ids``. None for none.

    Raises:
        ValueError: an argument out of range; at setup, a file that is missing, empty or not text,
            or text that does not fill one training and one validation block.

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
        super().__init__()
        if block_size < 2:
            raise ValueError(f"block_size must be at least 2, to predict a token, got {block_size}")
        if not 0.0 < validation_fraction < 1.0:
            raise ValueError(f"validation_fraction must be in (0, 1), got {validation_fraction}")
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if max_tokens is not None and max_tokens < block_size:
            raise ValueError(f"max_tokens={max_tokens} is less than block_size={block_size}")
        self.tokenizer_source = tokenizer
        self.files = files
        self.validation_files = validation_files
        self.text_field = text_field
        self.block_size = block_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.num_workers = num_workers
        self.max_tokens = max_tokens
        self.spans = spans
        self._parts: tuple[Blocks, Blocks] | None = None
        self._documents: dict[str, int] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, loaded when it is first asked for."""
        source = self.tokenizer_source
        return load_tokenizer(source) if isinstance(source, str) else source

    @cached_property
    def span_ids(self) -> SpanIds | None:
        """What finds the spans of a sequence of tokens, or None where none are asked for."""
        return None if self.spans is None else SpanIds(self.tokenizer, self.spans)

    def _with_spans(self, blocks: Blocks) -> Any:
        return blocks if self.span_ids is None else WithSpans(blocks, self.span_ids)

    def prepare_data(self) -> None:
        """Fetch what has to be fetched, in one process a machine."""
        for files in (self.files, self.validation_files):
            names = [files] if isinstance(files, str) else files or []
            remote = [name for name in names if name.startswith(HUB)]
            if remote:
                read_documents(remote, text_field=self.text_field)

    def setup(self, stage: str | None = None) -> None:
        """Read, split, encode and pack the text, once."""
        if self._parts is not None:
            return
        train, validation = self._train_and_validation()
        self._documents = {
            "train_documents": len(train),
            "validation_documents": len(validation),
        }
        self._parts = (
            self._pack(train, "training", self.files),
            self._pack(validation, "validation", self.validation_files or self.files),
        )

    def _train_and_validation(self) -> tuple[list[Tensor], list[Tensor]]:
        texts = read_documents(self.files, text_field=self.text_field)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(texts), generator=generator).tolist()
        texts = [texts[index] for index in order]
        if self.validation_files is None:
            documents = encode(texts, self.tokenizer, limit=self.max_tokens)
            validation, train = split_documents(documents, fraction=self.validation_fraction)
            return train, validation
        held_out = read_documents(self.validation_files, text_field=self.text_field)
        unseen = set(held_out)
        train = [text for text in texts if text not in unseen]
        documents = encode(train, self.tokenizer, limit=self.max_tokens)
        return documents, encode(held_out, self.tokenizer)

    def _pack(self, documents: list[Tensor], part: str, files: Any) -> Blocks:
        blocks = Blocks(documents, block_size=self.block_size, padding=self.tokenizer.eos_token_id)
        if blocks.tokens < self.block_size:
            raise ValueError(
                f"files={files!r} leave {blocks.tokens} tokens in {len(documents)} documents for"
                f" {part}, less than one block of block_size={self.block_size}: give more text,"
                " smaller blocks, or (documents are never divided between training and validation)"
                " validation_files"
            )
        return blocks

    @property
    def train_blocks(self) -> Blocks:
        """The blocks to train on."""
        return self._both()[0]

    @property
    def validation_blocks(self) -> Blocks:
        """The blocks to validate and test on."""
        return self._both()[1]

    def _both(self) -> tuple[Blocks, Blocks]:
        self.setup()
        assert self._parts is not None
        return self._parts

    @property
    def summary(self) -> dict[str, int]:
        """Counts of documents, tokens and blocks in both parts."""
        return {
            "train_tokens": self.train_blocks.tokens,
            "validation_tokens": self.validation_blocks.tokens,
            "train_blocks": len(self.train_blocks),
            "validation_blocks": len(self.validation_blocks),
            **self._documents,
        }

    def train_dataloader(self) -> DataLoader:
        """Training blocks, in an order of their own every epoch."""
        return train_loader(
            self._with_spans(self.train_blocks),
            size=len(self.train_blocks),
            batch_size=self.batch_size,
            seed=self.seed,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader:
        """Validation blocks, in order."""
        return eval_loader(
            self._with_spans(self.validation_blocks),
            trainer=self.trainer,
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
        )

    def test_dataloader(self) -> DataLoader:
        """The validation blocks."""
        return self.val_dataloader()
