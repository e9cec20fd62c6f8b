"""From encoded traces to samples and batches: one side, both sides, or pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from math import ceil
from os.path import commonprefix
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from kdlight.data.targets import IGNORE
from kdlight.data.traces.encode import Encoded

Kind: TypeAlias = Literal["positives", "pairs", "unpaired"]
FILL = {"input_ids": 0, "attention_mask": 0, "labels": IGNORE}


def group(traces: Iterable[Encoded], *, kind: Kind, per_prompt: int | None) -> list[list[Encoded]]:
    """The traces of each sample: one, or a right and a wrong one of the same prompt.

    Args:
        traces: in the order in which those of a prompt are preferred.
        kind: ``"positives"`` takes right ones alone; ``"pairs"`` the k-th right and the k-th wrong
            one of a prompt; ``"unpaired"`` both, each by itself.
        per_prompt: at most so many samples of a prompt, of each side; None for all.
    """
    prompts: dict[str, tuple[list[Encoded], list[Encoded]]] = {}
    for trace in traces:
        prompts.setdefault(trace.prompt_id, ([], []))[trace.rejected].append(trace)
    samples: list[list[Encoded]] = []
    for right, wrong in prompts.values():
        if kind == "pairs":
            pairs = map(list, zip(right, wrong, strict=False))
            samples += islice(pairs, per_prompt)
        else:
            samples += ([trace] for trace in islice(right, per_prompt))
            if kind == "unpaired":
                samples += ([trace] for trace in islice(wrong, per_prompt))
    return samples


def draw(names: set[str], fraction: float, seed: int) -> set[str]:
    """A part of the names, the same whatever else is read with them and in which order.

    Example:
        >>> draw({"a", "b", "c", "d"}, 0.5, 0) == draw({"d", "c", "b", "a"}, 0.5, 0)
        True
    """
    order = sorted(names, key=lambda name: sha256(f"{seed}:{name}".encode()).digest())
    return set(order[: ceil(fraction * len(names))])


class TraceRows(Dataset):
    """Samples of one or two sequences, each a dict of tensors ``(R, T)``.

    ``labels`` are those of Hugging Face, unshifted, and -100 on the prompt. ``rejected``, ``(R,)``,
    says which sequences are wrong; it is left out of ``"positives"``, where nothing is.

    Args:
        samples: encoded traces of each sample.
        kind: see `group`.
        mask_shared_prefix: do not score the tokens with which a wrong response begins as its right
            partner does.
        mask_end: do not score the last token of a wrong response, which ends it: pushing it down
            would push down stopping.
    """

    def __init__(
        self,
        samples: Sequence[Sequence[Encoded]],
        *,
        kind: Kind,
        mask_shared_prefix: bool = False,
        mask_end: bool = False,
    ) -> None:
        self.samples = samples
        self.kind: Kind = kind
        self.mask_shared_prefix = mask_shared_prefix
        self.mask_end = mask_end

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt included."""
        lengths = (len(t.prompt) + len(t.completion) for traces in self.samples for t in traces)
        return max(lengths, default=0)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        traces = self.samples[index]
        shared = 0
        if self.mask_shared_prefix and len(traces) > 1:
            shared = len(commonprefix([trace.completion for trace in traces]))
        sample = join([self._row(trace, shared) for trace in traces])
        if self.kind == "positives":
            del sample["rejected"]
        return sample

    def _row(self, trace: Encoded, shared: int) -> dict[str, Tensor]:
        labels = [IGNORE] * len(trace.prompt) + trace.completion
        if trace.rejected:
            begin = len(trace.prompt)
            labels[begin : begin + shared] = [IGNORE] * shared
            if self.mask_end:
                labels[-1] = IGNORE
        ids = torch.tensor(trace.prompt + trace.completion)
        return {
            "input_ids": ids[None],
            "attention_mask": torch.ones_like(ids)[None],
            "labels": torch.tensor(labels)[None],
            "rejected": torch.tensor([trace.rejected]),
        }


def join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Rows of several samples under each other, filled up at their ends; a collator."""
    longest = max(part["input_ids"].shape[1] for part in parts)
    batch = {
        name: torch.cat(
            [pad(part[name], (0, longest - part[name].shape[1]), value=fill) for part in parts]
        )
        for name, fill in FILL.items()
    }
    if "rejected" in parts[0]:
        batch["rejected"] = torch.cat([part["rejected"] for part in parts])
    return batch
