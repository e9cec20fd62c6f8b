"""From documents to blocks of tokens: encode, split by document, concatenate, cut."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlight.data.targets import IGNORE

AT_A_TIME = 64


def encode(documents: Sequence[str], tokenizer: Any, *, limit: int | None = None) -> list[Tensor]:
    """Tokens of every document, each ending with the end-of-text token.

    Args:
        documents: texts.
        tokenizer: a Hugging Face tokenizer. A text begins as it begins texts (some put a token in
            front).
        limit: stop after the document with which this number of tokens is reached.

    Raises:
        ValueError: the tokenizer has no end-of-text token.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("the tokenizer has no end-of-text token (eos_token) to end documents with")
    encoded: list[Tensor] = []
    total = 0
    for start in range(0, len(documents), AT_A_TIME):
        some = list(documents[start : start + AT_A_TIME])
        for ids in tokenizer(some, verbose=False)["input_ids"]:
            if not ids or ids[-1] != end:
                ids = [*ids, end]
            encoded.append(torch.tensor(ids, dtype=torch.int32))
            total += len(ids)
            if limit is not None and total >= limit:
                return encoded
    return encoded


def split_documents(
    documents: Sequence[Tensor], *, fraction: float
) -> tuple[list[Tensor], list[Tensor]]:
    """The first documents until they hold ``fraction`` of all tokens, and the others.

    Example:
        >>> first, others = split_documents([torch.zeros(n) for n in (2, 3, 5, 10)], fraction=0.2)
        >>> len(first), len(others)
        (2, 2)
    """
    wanted = fraction * sum(map(len, documents))
    held = 0
    for index, document in enumerate(documents):
        if held >= wanted:
            return list(documents[:index]), list(documents[index:])
        held += len(document)
    return list(documents), []


class Blocks(Dataset):
    """Documents end to end, cut into blocks of ``block_size`` tokens.

    A sample is a dict of ``input_ids`` and ``labels``, both ``(block_size,)``, unshifted as Hugging
    Face has them. The last block is filled up, with labels -100 where it is, so that no token is
    lost. A block may hold the end of one document and the beginning of the next.

    Args:
        documents: token ids of each document.
        block_size: tokens of a block.
        padding: token id to fill up the last block with.

    Example:
        >>> documents = [torch.tensor([1, 2, 0]), torch.tensor([3, 0])]
        >>> blocks = Blocks(documents, block_size=4, padding=0)
        >>> [block["labels"].tolist() for block in blocks]
        [[1, 2, 0, 3], [0, -100, -100, -100]]
    """

    def __init__(self, documents: Sequence[Tensor], *, block_size: int, padding: int) -> None:
        tokens = torch.cat([torch.empty(0, dtype=torch.int32), *documents])
        self.tokens = len(tokens)
        size = ceil(self.tokens / block_size) * block_size
        self.input_ids = torch.full((size,), padding, dtype=torch.int32)
        self.input_ids[: self.tokens] = tokens
        self.input_ids = self.input_ids.view(-1, block_size)

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        input_ids = self.input_ids[index].long()
        labels = input_ids.clone()
        labels[max(self.tokens - index * len(labels), 0) :] = IGNORE
        return {"input_ids": input_ids, "labels": labels}
