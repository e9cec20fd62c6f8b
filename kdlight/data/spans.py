"""Span ids of positions, from spans of characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlight.data.span_finders import Finder, NGrams, find_spans

NO_SPAN = -1
"""Span id of a position that is in no span."""


class SpanIds:
    """Computes aligned span ids from the tokens of a sequence, (T,) -> (T,).

    Tokens are decoded to text, and spans are found in the text. A token is in a span if all its
    characters are, apart from white space. Ids are aligned like labels: a position has the id of
    the token that it predicts. A span of a single token holds no pair to compare and is left out.

    Args:
        tokenizer: a Hugging Face tokenizer.
        spans: how to find spans, see `kdlight.data.span_finders.find_spans`.

    Raises:
        ValueError: If ``spans`` is unknown; when called, if spans do not fit the text.

    Example:
        >>> SpanIds(None, "ngrams:2")(torch.tensor([7, 8, 9, 7, 8]))
        tensor([ 0,  1,  1, -1, -1])
    """

    def __init__(self, tokenizer: Any, spans: str | Finder = "auto") -> None:
        self.tokenizer = tokenizer
        self.finder = find_spans(spans)

    def __call__(self, input_ids: Tensor) -> Tensor:
        """Compute the span ids of one sequence."""
        if isinstance(self.finder, NGrams):
            ids = torch.arange(len(input_ids)) // self.finder.size
        else:
            text, offsets = text_and_offsets(input_ids.tolist(), self.tokenizer)
            ids = torch.tensor(token_spans(text, offsets, self.finder(text)), dtype=torch.long)
            special = torch.tensor(self.tokenizer.all_special_ids, dtype=torch.long)
            ids[torch.isin(input_ids.cpu(), special)] = NO_SPAN
        is_single = torch.bincount(ids[ids >= 0], minlength=1) < 2
        ids[(ids >= 0) & is_single[ids.clamp(min=0)]] = NO_SPAN
        aligned = ids.roll(-1)
        aligned[-1:] = NO_SPAN
        return aligned.to(input_ids.device)


class WithSpans(Dataset):
    """Adds ``span_ids`` to the samples of a dataset, computed once per sample.

    Args:
        samples: a dataset of dicts with ``input_ids`` (T,).
        span_ids: computes the span ids of a sequence.
    """

    def __init__(self, samples: Any, span_ids: SpanIds) -> None:
        self.samples, self.span_ids = samples, span_ids
        self._cache: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        if index not in self._cache:
            self._cache[index] = self.span_ids(sample["input_ids"]).to(torch.int32)
        return {**sample, "span_ids": self._cache[index].long()}


def token_spans(
    text: str, offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> list[int]:
    """Return the index of the span that each token is in, -1 for none.

    Args:
        text: the text of the tokens.
        offsets: first character and end of each token.
        spans: first character and end of each span, in order and without overlap.

    Raises:
        ValueError: If spans are not in order, overlap, or exceed the text.

    Example:
        >>> token_spans("the cat, it", [(0, 3), (3, 7), (7, 8), (8, 11)], [(0, 7), (9, 11)])
        [0, 0, -1, 1]
    """
    previous_end = 0
    for start, end in spans:
        if not previous_end <= start < end <= len(text):
            raise ValueError(
                f"the span from {start} to {end} does not fit: spans must lie in the text of"
                f" {len(text)} characters, in order and without overlap"
            )
        previous_end = end
    indices, current = [], 0
    for start, end in offsets:
        piece = text[start:end]
        end -= len(piece) - len(piece.rstrip())
        start += len(piece) - len(piece.lstrip())
        while current < len(spans) and spans[current][1] <= start:
            current += 1
        is_inside = (
            start < end
            and current < len(spans)
            and spans[current][0] <= start
            and end <= spans[current][1]
        )
        indices.append(current if is_inside else NO_SPAN)
    return indices


def text_and_offsets(ids: list[int], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of tokens, and the first character and end of each token in it.

    A fast tokenizer returns offsets when it encodes a text. The text may be encoded to other tokens
    than ``ids``: a block can begin inside a word, and a model can generate any tokens. Then each
    token is decoded alone, and their texts are concatenated.
    """
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    if getattr(tokenizer, "is_fast", False):
        text = tokenizer.decode(ids, **options)
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        if encoded["input_ids"] == ids:
            return text, [tuple(each) for each in encoded["offset_mapping"]]
    pieces = [tokenizer.decode([token], **options) for token in ids]
    ends = torch.tensor([0, *map(len, pieces)]).cumsum(0).tolist()
    return "".join(pieces), list(zip(ends, ends[1:], strict=False))
