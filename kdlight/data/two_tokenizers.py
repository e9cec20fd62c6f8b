"""The same text in the tokens of the student, and in those of a teacher that has others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from kdlight.data.targets import IGNORE, next_token_labels

Sample: TypeAlias = "str | tuple[str, str]"
"""A text, or a prompt and what follows it."""


class TwoTokenizers:
    """Encodes each sample twice, and pads a batch of them.

    ``input_ids``, ``attention_mask`` and ``labels`` are the student's, labels unshifted as Hugging
    Face has them. ``teacher_input_ids`` and ``teacher_attention_mask`` are what the teacher reads
    (see `TeacherTokens`), and ``teacher_mask`` says which of its logits count: already aligned, it
    is True where they predict a token of the text. On both sides the first position that counts
    predicts the first token of the same text, and the last one its end.

    Args:
        tokenizer: of the student, from Hugging Face.
        teacher_tokenizer: of the teacher.
        max_length: tokens of a sample on either side; what is longer is cut.

    Raises:
        ValueError: a tokenizer without an end-of-text token, or max_length below 2.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> ids = {"<end>": 0, "2": 1, "+": 2, "=": 3, "4": 4}
        >>> words = Tokenizer(models.WordLevel(ids, unk_token="<end>"))
        >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
        >>> TwoTokenizers(tokenizer, tokenizer)([("2 + 2 =", " 4")])["labels"]
        tensor([[-100, -100, -100, -100, -100,    4,    0]])
    """

    def __init__(self, tokenizer: Any, teacher_tokenizer: Any, *, max_length: int = 512) -> None:
        for name, each in (("tokenizer", tokenizer), ("teacher_tokenizer", teacher_tokenizer)):
            if each.eos_token_id is None:
                raise ValueError(f"{name} has no end-of-text token (eos_token) to end texts with")
        if max_length < 2:
            raise ValueError(f"max_length must be at least 2, got {max_length}")
        self.tokenizer = tokenizer
        self.teacher_tokenizer = teacher_tokenizer
        self.max_length = max_length

    def encode(self, sample: Sample) -> dict[str, Tensor]:
        """``input_ids`` and ``labels`` of one sample, and both again for the teacher."""
        prompt, text = ("", sample) if isinstance(sample, str) else sample
        ids, labels = self._tokens(self.tokenizer, prompt, text)
        teacher_ids, teacher_labels = self._tokens(self.teacher_tokenizer, prompt, text)
        return {
            "input_ids": ids,
            "labels": labels,
            "teacher_input_ids": teacher_ids,
            "teacher_labels": teacher_labels,
        }

    def _tokens(self, tokenizer: Any, prompt: str, text: str) -> tuple[Tensor, Tensor]:
        end = tokenizer.eos_token_id
        # something must predict the first token of the text, on both sides
        start = [end if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if before[:1] != start:
            before = [*start, *before]
        after = [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
        ids = torch.tensor([*before, *after])
        labels = ids.clone()
        labels[: len(before)] = IGNORE
        return ids[: self.max_length], labels[: self.max_length]

    def __call__(self, samples: Sequence[Sample | Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """A batch of samples, encoded already or not."""
        rows = [self.encode(each) if not isinstance(each, Mapping) else each for each in samples]
        batch: dict[str, Tensor] = {}
        for side, tokenizer in (("", self.tokenizer), ("teacher_", self.teacher_tokenizer)):
            ids = [row[f"{side}input_ids"] for row in rows]
            batch[f"{side}input_ids"] = _pad(ids, tokenizer.eos_token_id)
            batch[f"{side}attention_mask"] = _pad([torch.ones_like(each) for each in ids], 0)
        batch["labels"] = _pad([row["labels"] for row in rows], IGNORE)
        theirs = _pad([row["teacher_labels"] for row in rows], IGNORE)
        batch["teacher_mask"] = next_token_labels(theirs) != IGNORE
        return batch


class EncodedTwice(Dataset):
    """Samples that are encoded when they are asked for.

    Args:
        samples: texts, or pairs of a prompt and what follows.
        encode: `TwoTokenizers`.
    """

    def __init__(self, samples: Sequence[Sample], encode: TwoTokenizers) -> None:
        self.samples = samples
        self.encode = encode

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.encode.encode(self.samples[index])


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
