"""Take the sequences out of a batch, and put others in their place."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdlight.losses.labels import IGNORE_INDEX


@dataclass(frozen=True)
class Row:
    """One sequence without padding, (n,).

    Attributes:
        ids: its tokens.
        labels: its labels, not shifted, -100 where a token is not valid.
        prompt: length of the prompt; 0 if the row has none, no response, or no room for one.
        limit: maximal length of prompt and response together.
    """

    ids: Tensor
    labels: Tensor
    prompt: int
    limit: int

    def respond(self, ids: Tensor) -> Row:
        """Return a row with the tokens ``ids``, in which every token after the prompt is valid."""
        labels = ids.clone()
        labels[: self.prompt] = IGNORE_INDEX
        return Row(ids, labels, self.prompt, self.limit)


def take_rows(
    batch: Mapping[str, Tensor], *, prompt_tokens: int, max_new_tokens: int | None
) -> list[Row]:
    """Return the sequences of a batch, each divided into a prompt and a response.

    The prompt is what precedes the first valid label. Plain text, in which the first token is
    valid already, has no such boundary; its first ``prompt_tokens`` tokens are the prompt. The
    limit of a row is at most the width of the batch.

    Args:
        batch: ``input_ids`` (B, T), and ``labels`` and ``attention_mask`` if there are any.
        prompt_tokens: length of the prompt of plain text.
        max_new_tokens: maximal length of a response; None for what the width of the batch leaves.
    """
    ids, width = batch["input_ids"], batch["input_ids"].shape[1]
    labels = batch.get("labels")
    attention_mask = batch.get("attention_mask")
    rows = []
    for i in range(len(ids)):
        kept = torch.ones(width, dtype=torch.bool)
        if attention_mask is not None:
            kept = attention_mask[i].bool().cpu()
        row_ids = ids[i].cpu()[kept]
        row_labels = row_ids if labels is None else labels[i].cpu()[kept]
        valid = (row_labels != IGNORE_INDEX).nonzero().squeeze(-1)
        begin, end = (valid[0].item(), valid[-1].item() + 1) if len(valid) else (0, 0)
        # the first token of a sequence is no target, as nothing precedes it
        prompt = int(begin) if begin > 0 else prompt_tokens
        limit = width if max_new_tokens is None else min(width, prompt + max_new_tokens)
        has_response = prompt < min(end, limit)
        rows.append(Row(row_ids, row_labels.clone(), prompt if has_response else 0, limit))
    return rows


def put_rows(batch: MutableMapping[str, Any], rows: Sequence[Row], span_ids: Any = None) -> None:
    """Replace the sequences of a batch by ``rows``, padded on the right.

    Args:
        batch: changed in place.
        rows: one for each sequence.
        span_ids: computes the span ids of a sequence of tokens, for a batch that has ``span_ids``.

    Raises:
        ValueError: The batch has further entries that describe its old sequences.
    """
    device = batch["input_ids"].device
    outdated = sorted({"rejected", "teacher_mask"} & set(batch))
    if outdated:
        raise ValueError(
            f"the batch has {outdated}, which describe the sequences in it; they cannot be replaced"
            " by text that the student generates"
        )
    if "span_ids" in batch and span_ids is None:
        raise ValueError(
            "the batch has span_ids, which cannot be computed for the text that the student"
            " generates; give the data module spans=..., as kdlight.data.TextDataModule has it"
        )
    batch.pop("position_ids", None)
    entries = {
        "input_ids": ([row.ids for row in rows], 0),
        "labels": ([row.labels for row in rows], IGNORE_INDEX),
        "attention_mask": ([torch.ones_like(row.ids) for row in rows], 0),
    }
    if "span_ids" in batch:
        entries["span_ids"] = ([span_ids(row.ids) for row in rows], -1)
    for name, (values, padding) in entries.items():
        padded = pad_sequence(values, batch_first=True, padding_value=padding)
        batch[name] = padded.to(device)
