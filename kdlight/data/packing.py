"""Documents encoded, concatenated and cut into blocks of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlight.checks import check_integer
from kdlight.losses.labels import IGNORE_INDEX

DOCUMENTS_PER_CALL = 64
"""Number of documents in one call of the tokenizer."""


def encode(documents: Sequence[str], tokenizer: Any, *, limit: int | None = None) -> list[Tensor]:
    """Return the token ids of each document, followed by the end-of-text token.

    Args:
        documents: texts.
        tokenizer: a Hugging Face tokenizer. Special tokens that it adds at the start of a text are
            kept.
        limit: stop after the document that reaches this total number of tokens.

    Raises:
        ValueError: If the tokenizer has no end-of-text token.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("the tokenizer has no end-of-text token (eos_token) to end documents with")
    encoded: list[Tensor] = []
    total = 0
    for start in range(0, len(documents), DOCUMENTS_PER_CALL):
        texts = list(documents[start : start + DOCUMENTS_PER_CALL])
        for ids in tokenizer(texts, verbose=False)["input_ids"]:
            if not ids or ids[-1] != end:
                ids = [*ids, end]
            encoded.append(torch.tensor(ids, dtype=torch.int32))
            total += len(ids)
            if limit is not None and total >= limit:
                return encoded
    return encoded


class Blocks(Dataset):
    """Documents concatenated and cut into blocks of ``block_size`` tokens.

    A sample is a dict of ``input_ids`` and ``labels``, both ``(block_size,)``. Labels are not
    shifted, as in Hugging Face. The last block is padded, with labels -100, so that no token is
    lost. A block may hold the end of one document and the beginning of the next.

    Args:
        documents: token ids of each document.
        block_size: number of tokens in a block.
        padding: token id that pads the last block.

    Raises:
        ValueError: If ``block_size`` is below 1.

    Example:
        >>> documents = [torch.tensor([1, 2, 0]), torch.tensor([3, 0])]
        >>> blocks = Blocks(documents, block_size=4, padding=0)
        >>> [block["labels"].tolist() for block in blocks]
        [[1, 2, 0, 3], [0, -100, -100, -100]]
    """

    def __init__(self, documents: Sequence[Tensor], *, block_size: int, padding: int) -> None:
        check_integer("block_size", block_size, 1)
        tokens = torch.cat([torch.empty(0, dtype=torch.int32), *documents])
        self.tokens = len(tokens)
        padded_size = ceil(self.tokens / block_size) * block_size
        self.input_ids = torch.full((padded_size,), padding, dtype=torch.int32)
        self.input_ids[: self.tokens] = tokens
        self.input_ids = self.input_ids.view(-1, block_size)

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        input_ids = self.input_ids[index].long()
        labels = input_ids.clone()
        labels[max(self.tokens - index * len(labels), 0) :] = IGNORE_INDEX
        return {"input_ids": input_ids, "labels": labels}
