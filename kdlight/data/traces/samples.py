"""Samples and batches of encoded traces: chosen responses, or chosen and rejected ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from os.path import commonprefix
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from kdlight.data.traces.encode import EncodedTrace
from kdlight.losses.labels import IGNORE_INDEX

Kind: TypeAlias = Literal["positives", "pairs", "unpaired"]
KINDS = ("positives", "pairs", "unpaired")
PADDING = {"input_ids": 0, "attention_mask": 0, "labels": IGNORE_INDEX}


def group_samples(
    traces: Iterable[EncodedTrace], *, kind: Kind, per_prompt: int | None
) -> list[list[EncodedTrace]]:
    """Return the traces of each sample: one, or a chosen and a rejected one of the same prompt.

    Args:
        traces: traces; the first ones of a prompt are used first.
        kind: ``"positives"`` uses chosen traces only; ``"pairs"`` the k-th chosen and the k-th
            rejected trace of a prompt; ``"unpaired"`` both, each as a sample.
        per_prompt: maximal number of samples per prompt, for ``"unpaired"`` of chosen and of
            rejected ones each; None for all. For ``"positives"``, prompts of one id that differ,
            such as by a marker, count as several.
    """
    prompts: dict[str, tuple[list[EncodedTrace], list[EncodedTrace]]] = {}
    for trace in traces:
        prompts.setdefault(trace.prompt_id, ([], []))[trace.rejected].append(trace)
    samples: list[list[EncodedTrace]] = []
    for chosen, rejected in prompts.values():
        if kind == "pairs":
            pairs = map(list, zip(chosen, rejected, strict=False))
            samples += islice(pairs, per_prompt)
        else:
            samples += ([trace] for trace in _first_ones(chosen, kind, per_prompt))
            if kind == "unpaired":
                samples += ([trace] for trace in islice(rejected, per_prompt))
    return samples


def _first_ones(
    traces: Sequence[EncodedTrace], kind: Kind, per_prompt: int | None
) -> Iterable[EncodedTrace]:
    """Return the first traces of a prompt; of positives, of each text that it has.

    One prompt id has several texts where operators put markers or steps into the prompt.
    """
    if kind != "positives" or per_prompt is None:
        return islice(traces, per_prompt)
    counts = Counter[tuple[int, ...]]()
    kept = []
    for trace in traces:
        counts[tuple(trace.prompt)] += 1
        if counts[tuple(trace.prompt)] <= per_prompt:
            kept.append(trace)
    return kept


class TraceDataset(Dataset):
    """Samples of one or two sequences, each a dict of tensors ``(R, T)``.

    ``labels`` are not shifted, as in Hugging Face, and -100 on the prompt and between the scored
    turns of the assistant. ``rejected``, ``(R,)``, marks the rejected sequences; it is absent for
    ``"positives"``, which has none.

    Args:
        samples: the encoded traces of each sample.
        kind: see `group_samples`.
        mask_shared_prefix: ignore the tokens with which the rejected response of a pair starts like
            the chosen one.
        mask_end: ignore the last token of a rejected response, the end-of-text token: a lower
            probability there would keep the model from stopping. An unfinished response has none.
            With several turns, the last token of each is ignored.
    """

    def __init__(
        self,
        samples: Sequence[Sequence[EncodedTrace]],
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
        """Number of tokens of the longest sequence, prompt included."""
        lengths = (len(t.prompt) + len(t.completion) for traces in self.samples for t in traces)
        return max(lengths, default=0)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        traces = self.samples[index]
        shared = 0
        if self.mask_shared_prefix and len(traces) > 1:
            shared = len(commonprefix([trace.completion for trace in traces]))
        sample = collate_samples([self._row(trace, shared) for trace in traces])
        if self.kind == "positives":
            del sample["rejected"]
        return sample

    def _row(self, trace: EncodedTrace, shared: int) -> dict[str, Tensor]:
        begin = len(trace.prompt)
        labels = [IGNORE_INDEX] * (begin + len(trace.completion))
        for start, stop in trace.scored:
            labels[begin + start : begin + stop] = trace.completion[start:stop]
        if trace.rejected:
            labels[begin : begin + shared] = [IGNORE_INDEX] * shared
            if self.mask_end:
                for _, stop in trace.scored if trace.ended else trace.scored[:-1]:
                    labels[begin + stop - 1] = IGNORE_INDEX
        ids = torch.tensor(trace.prompt + trace.completion)
        return {
            "input_ids": ids[None],
            "attention_mask": torch.ones_like(ids)[None],
            "labels": torch.tensor(labels)[None],
            "rejected": torch.tensor([trace.rejected]),
        }


def collate_samples(samples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate the sequences of samples, padded at their ends to the same length."""
    longest = max(sample["input_ids"].shape[1] for sample in samples)
    batch = {
        name: torch.cat(
            [pad(each[name], (0, longest - each[name].shape[1]), value=fill) for each in samples]
        )
        for name, fill in PADDING.items()
    }
    if "rejected" in samples[0]:
        batch["rejected"] = torch.cat([sample["rejected"] for sample in samples])
    return batch
