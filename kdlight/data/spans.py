"""Which tokens form a span: from spans of characters to one number a position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kdlight.data.span_finders import Finder, NGrams, find

NONE = -1
"""The id of a position that is in no span."""


class SpanIds:
    """From the tokens of a sequence to aligned span ids, (T,) -> (T,).

    The text of the tokens is made, spans are found in it, and a token is in a span if all its
    characters are, apart from white space. Ids are aligned like labels: a position has the id of
    the token that it predicts. A span of one token says nothing, and is left out.

    Args:
        tokenizer: a Hugging Face tokenizer.
        spans: how spans are found, see `kdlight.data.span_finders.find`.

    Raises:
        ValueError: spans names no way; when called, spans that do not fit the text.

    Example:
        >>> SpanIds(None, "ngrams:2")(torch.tensor([7, 8, 9, 7, 8]))
        tensor([ 0,  1,  1, -1, -1])
    """

    def __init__(self, tokenizer: Any, spans: str | Finder = "auto") -> None:
        self.tokenizer = tokenizer
        self.finder = find(spans)

    def __call__(self, input_ids: Tensor) -> Tensor:
        """Span ids of one sequence."""
        if isinstance(self.finder, NGrams):
            owners = torch.arange(len(input_ids)) // self.finder.size
        else:
            text, offsets = text_and_offsets(input_ids.tolist(), self.tokenizer)
            owners = torch.tensor(owners_of(text, offsets, self.finder(text)), dtype=torch.long)
            special = torch.tensor(self.tokenizer.all_special_ids, dtype=torch.long)
            owners[torch.isin(input_ids.cpu(), special)] = NONE
        alone = torch.bincount(owners[owners >= 0], minlength=1) < 2
        owners[(owners >= 0) & alone[owners.clamp(min=0)]] = NONE
        aligned = owners.roll(-1)
        aligned[-1:] = NONE
        return aligned.to(input_ids.device)


class WithSpans(Dataset):
    """Samples of another data set with their ``span_ids``, found once each.

    Args:
        samples: a data set of dicts with ``input_ids`` (T,).
        span_ids: finds the spans.
    """

    def __init__(self, samples: Any, span_ids: SpanIds) -> None:
        self.samples, self.span_ids = samples, span_ids
        self._found: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        if index not in self._found:
            self._found[index] = self.span_ids(sample["input_ids"]).to(torch.int32)
        return {**sample, "span_ids": self._found[index].long()}


def owners_of(
    text: str, offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> list[int]:
    """The number of the span that each token is in, -1 for none.

    Args:
        text: what was tokenized.
        offsets: where each token begins and ends.
        spans: where each span begins and ends, in order, none within another.

    Raises:
        ValueError: spans out of order, over each other, or beyond the text.

    Example:
        >>> owners_of("the cat, it", [(0, 3), (3, 7), (7, 8), (8, 11)], [(0, 7), (9, 11)])
        [0, 0, -1, 1]
    """
    reached = 0
    for start, end in spans:
        if not reached <= start < end <= len(text):
            raise ValueError(
                f"the span from {start} to {end} does not fit: spans must lie in the text of"
                f" {len(text)} characters, in order and none over another"
            )
        reached = end
    owners, at = [], 0
    for start, end in offsets:
        piece = text[start:end]
        end -= len(piece) - len(piece.rstrip())
        start += len(piece) - len(piece.lstrip())
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        inside = start < end and at < len(spans) and spans[at][0] <= start and end <= spans[at][1]
        owners.append(at if inside else NONE)
    return owners


def text_and_offsets(ids: list[int], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The text of some tokens, and where in it each of them stands.

    A tokenizer knows its offsets when it reads a text. Where it would read the text as other
    tokens (a block may begin in the midst of a word, and a model writes as it likes), the texts of
    the single tokens are put together.
    """
    plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    if getattr(tokenizer, "is_fast", False):
        text = tokenizer.decode(ids, **plain)
        read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        if read["input_ids"] == ids:
            return text, [tuple(each) for each in read["offset_mapping"]]
    pieces = [tokenizer.decode([token], **plain) for token in ids]
    ends = torch.tensor([0, *map(len, pieces)]).cumsum(0).tolist()
    return "".join(pieces), list(zip(ends, ends[1:], strict=False))
