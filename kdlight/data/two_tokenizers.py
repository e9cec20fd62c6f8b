"""The same text in the tokens of a student and of a teacher with another tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from kdlight.checks import check_integer
from kdlight.data.targets import next_token_labels
from kdlight.losses.labels import IGNORE_INDEX

Sample: TypeAlias = "str | tuple[str, str]"
"""A text, or a prompt and the text that follows it."""


class TwoTokenizers:
    """Encodes each sample with two tokenizers, and pads a batch of samples.

    ``input_ids``, ``attention_mask`` and ``labels`` are for the student; labels are not shifted, as
    in Hugging Face. ``teacher_input_ids`` and ``teacher_attention_mask`` are the inputs of the
    teacher (see `TeacherTokens`). ``teacher_mask`` marks the valid positions of the teacher's
    logits. It is aligned with the logits: True where they predict a token of the text. For both
    models the first valid position predicts the first token of the same text, and the last valid
    position predicts the end-of-text token.

    Args:
        tokenizer: the student's tokenizer, from Hugging Face.
        teacher_tokenizer: the teacher's tokenizer.
        max_length: maximal number of tokens of a sample for either model; longer samples are cut.

    Raises:
        ValueError: If a tokenizer has no end-of-text token, or max_length is below 2.

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
        for name, value in (("tokenizer", tokenizer), ("teacher_tokenizer", teacher_tokenizer)):
            if value.eos_token_id is None:
                raise ValueError(f"{name} has no end-of-text token (eos_token) to end texts with")
        check_integer("max_length", max_length, 2)
        self.tokenizer = tokenizer
        self.teacher_tokenizer = teacher_tokenizer
        self.max_length = max_length

    def encode(self, sample: Sample) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``labels`` of one sample, for the student and the teacher."""
        prompt, text = ("", sample) if isinstance(sample, str) else sample
        ids, labels = self._ids_and_labels(self.tokenizer, prompt, text)
        teacher_ids, teacher_labels = self._ids_and_labels(self.teacher_tokenizer, prompt, text)
        return {
            "input_ids": ids,
            "labels": labels,
            "teacher_input_ids": teacher_ids,
            "teacher_labels": teacher_labels,
        }

    def _ids_and_labels(self, tokenizer: Any, prompt: str, text: str) -> tuple[Tensor, Tensor]:
        end = tokenizer.eos_token_id
        # for both models, a token before the text must predict its first token
        start = [end if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if prompt_ids[:1] != start:
            prompt_ids = [*start, *prompt_ids]
        text_ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
        ids = torch.tensor([*prompt_ids, *text_ids])
        labels = ids.clone()
        labels[: len(prompt_ids)] = IGNORE_INDEX
        return ids[: self.max_length], labels[: self.max_length]

    def __call__(self, samples: Sequence[Sample | Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Collate samples, which may be encoded already, to a padded batch."""
        rows = [each if isinstance(each, Mapping) else self.encode(each) for each in samples]
        batch: dict[str, Tensor] = {}
        for prefix, tokenizer in (("", self.tokenizer), ("teacher_", self.teacher_tokenizer)):
            ids = [row[f"{prefix}input_ids"] for row in rows]
            batch[f"{prefix}input_ids"] = _pad(ids, tokenizer.eos_token_id)
            batch[f"{prefix}attention_mask"] = _pad([torch.ones_like(each) for each in ids], 0)
        batch["labels"] = _pad([row["labels"] for row in rows], IGNORE_INDEX)
        teacher_labels = _pad([row["teacher_labels"] for row in rows], IGNORE_INDEX)
        batch["teacher_mask"] = next_token_labels(teacher_labels) != IGNORE_INDEX
        return batch


class EncodedTwice(Dataset):
    """Samples that `TwoTokenizers` encodes when they are accessed.

    Args:
        samples: texts, or pairs of a prompt and the text that follows it.
        encode: encodes the samples.
    """

    def __init__(self, samples: Sequence[Sample], encode: TwoTokenizers) -> None:
        self.samples = samples
        self.encode = encode

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.encode.encode(self.samples[index])

    def longest(self) -> dict[str, int]:
        """Encode all samples, and return the length of the longest for student and teacher."""
        names = {"student": "input_ids", "teacher": "teacher_input_ids"}
        longest = dict.fromkeys(names, 0)
        for index in range(len(self)):
            row = self[index]
            for model, name in names.items():
                longest[model] = max(longest[model], len(row[name]))
        return longest


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
