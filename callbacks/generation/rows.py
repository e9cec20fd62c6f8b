"""Rows of tokens: taken from a batch, gone on with by the student, put back into the batch."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdlight.data.targets import IGNORE


@dataclass(frozen=True)
class Row:
    """One sequence without padding, (n,).

    Attributes:
        ids: its tokens.
        labels: unshifted, -100 where a token does not count.
        prompt: tokens of the prompt; 0 where there is nothing to go on from, or no room to.
        limit: tokens that it may have in all.
    """

    ids: Tensor
    labels: Tensor
    prompt: int
    limit: int

    def respond(self, ids: Tensor) -> Row:
        """The same prompt with another response, all of which counts."""
        labels = ids.clone()
        labels[: self.prompt] = IGNORE
        return Row(ids, labels, self.prompt, self.limit)


def take_rows(
    batch: Mapping[str, Tensor], *, prompt_tokens: int, max_new_tokens: int | None
) -> list[Row]:
    """The sequences of a batch, and where their responses begin.

    The prompt is what stands before the first label that counts. Text that counts from its first
    token on has no prompt, and its first ``prompt_tokens`` are taken for one. A row grows no longer
    than the batch is wide.
    """
    ids, width = batch["input_ids"], batch["input_ids"].shape[1]
    labels = batch.get("labels")
    there = batch.get("attention_mask")
    rows = []
    for i in range(len(ids)):
        real = torch.ones(width, dtype=torch.bool) if there is None else there[i].bool().cpu()
        own = ids[i].cpu()[real]
        marks = own if labels is None else labels[i].cpu()[real]
        counts = (marks != IGNORE).nonzero().squeeze(-1)
        begin, end = (counts[0].item(), counts[-1].item() + 1) if len(counts) else (0, 0)
        # the first label is no target: nothing stands before it
        prompt = int(begin) if begin > 0 else prompt_tokens
        limit = width if max_new_tokens is None else min(width, prompt + max_new_tokens)
        answers = prompt < min(end, limit)
        rows.append(Row(own, marks.clone(), prompt if answers else 0, limit))
    return rows


def put_rows(batch: MutableMapping[str, Any], rows: Sequence[Row], span_ids: Any = None) -> None:
    """Make ``rows`` the sequences of the batch, padded at their ends.

    Raises:
        ValueError: the batch has further entries that say something of the sequences it had.
    """
    device = batch["input_ids"].device
    strange = sorted({"rejected", "teacher_mask"} & set(batch))
    if strange:
        raise ValueError(
            f"the batch has {strange}, which say something of the sequences in it; they cannot be"
            " replaced by text of the student's"
        )
    if "span_ids" in batch and span_ids is None:
        raise ValueError(
            "the batch has span_ids, and nothing finds those of the student's text; give the data"
            " module spans=..., as kdlight.data.TextDataModule has it"
        )
    batch.pop("position_ids", None)
    entries = {
        "input_ids": ([row.ids for row in rows], 0),
        "labels": ([row.labels for row in rows], IGNORE),
        "attention_mask": ([torch.ones_like(row.ids) for row in rows], 0),
    }
    if "span_ids" in batch:
        entries["span_ids"] = ([span_ids(row.ids) for row in rows], -1)
    for name, (values, fill) in entries.items():
        padded = pad_sequence(values, batch_first=True, padding_value=fill)
        batch[name] = padded.to(device)


def continue_text(
    student: Any,
    prefixes: Sequence[Tensor],
    room: Sequence[int],
    *,
    end: Sequence[int],
    device: torch.device,
    **options: Any,
) -> list[Tensor]:
    """Continue each prefix by at most ``room`` tokens, all in one call, with the student's cache.

    Prefixes of different lengths are filled up on their left. A continuation ends with the first
    token that ends a text.
    """
    fill = end[0] if end else 0
    longest = max(map(len, prefixes))
    ids = torch.full((len(prefixes), longest), fill)
    mask = torch.zeros_like(ids)
    for i, prefix in enumerate(prefixes):
        ids[i, longest - len(prefix) :] = prefix
        mask[i, longest - len(prefix) :] = 1
    out = student.generate(
        ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=max(room),
        eos_token_id=list(end) or None,
        pad_token_id=fill,
        use_cache=True,
        **options,
    )
    texts = []
    for prefix, new, most in zip(prefixes, out[:, longest:].cpu(), room, strict=True):
        ends = torch.isin(new, torch.tensor(end, dtype=new.dtype)).nonzero()
        length = min(most, int(ends[0]) + 1 if len(ends) else len(new))
        texts.append(torch.cat([prefix, new[:length]]))
    return texts
