"""Docstrings of installed packages, as texts to classify that need no download."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdlight.checks import check_integer, check_type
from kdlight.data.docstrings import WORD, read_docstrings
from kdlight.data.split_module import SplitDataModule
from kdlight.data.splits import check_validation_fraction

PACKAGES = ("huggingface_hub", "lightning", "networkx", "numpy", "scipy", "sympy")
"""Packages that kdlight or what it depends on needs, with many docstrings."""

PADDING, UNKNOWN, START, SEPARATOR = range(4)
"""Tokens that are no words."""

SENTENCE_END = re.compile(r"(?<=\.)\s|\n\s*\n")
Words = list[str]


class DocstringsDataModule(SplitDataModule):
    """Docstrings of installed packages: which package does a text belong to?

    Batches are dicts of ``input_ids``, ``attention_mask`` and ``token_type_ids``, ``(B, T)``, and
    ``labels`` ``(B,)``, the number of the package. A text is ``[start] first sentence [separator]
    further words [separator]``; the type of the tokens after the first separator is 1. Tokens are
    the most frequent words of the training texts: letters in lower case, without numbers and signs.
    The names of the packages and ``hidden_words`` are removed, as they would tell the answer.

    Training and validation texts come from different files of a package. They depend on the
    installed versions, so that accuracies are comparable on one machine only.

    Args:
        packages: names of installed packages, at least two.
        per_package: number of docstrings of a package, at most.
        max_length: number of tokens of a text, at most.
        vocabulary_size: number of tokens, at most.
        hidden_words: further words that are removed from the texts.
        batch_size: number of texts in a training batch.
        eval_batch_size: number of texts in a validation batch.
        validation_fraction: fraction of the files of a package to validate on.
        seed: seed of the choice of files and of the order of the training texts.
        num_workers: number of worker processes; the texts are in memory, so 0 is fast.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of range; at setup, if a package is not installed or has
            fewer than two files with docstrings.

    Example:
        >>> names = ["numpy", "lightning"]
        >>> data = DocstringsDataModule(packages=names, per_package=20, batch_size=4)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["input_ids"].shape == batch["attention_mask"].shape, batch["labels"].shape
        (True, torch.Size([4]))
    """

    def __init__(
        self,
        *,
        packages: Sequence[str] = PACKAGES,
        per_package: int = 320,
        max_length: int = 48,
        vocabulary_size: int = 4000,
        hidden_words: Sequence[str] = ("hf", "np", "nx", "pl"),
        batch_size: int = 32,
        eval_batch_size: int = 128,
        validation_fraction: float = 0.2,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        for name, words in (("packages", packages), ("hidden_words", hidden_words)):
            check_type(name, words, (list, tuple), "a list of texts")
            for word in words:
                check_type(name, word, str, "a list of texts")
        if len(set(packages)) < 2 or len(set(packages)) < len(packages):
            raise ValueError(f"packages must name at least two, each once, got {list(packages)}")
        check_integer("per_package", per_package, 2)
        check_integer("max_length", max_length, 4)
        check_integer("vocabulary_size", vocabulary_size, SEPARATOR + 2)
        check_validation_fraction(validation_fraction)
        self.packages, self.per_package = list(packages), per_package
        self.max_length, self.vocabulary_size = max_length, vocabulary_size
        self.hidden = {word for name in packages for word in WORD.findall(name.lower())}
        self.hidden |= set(hidden_words)
        self.validation_fraction = validation_fraction

    def load_parts(self) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
        """Read the docstrings, count the words, and encode the texts."""
        parts: tuple[list[tuple[Words, Words, int]], ...] = ([], [])
        for label, package in enumerate(self.packages):
            files = read_docstrings(package, limit=self.per_package, seed=self.seed)
            held_out = max(1, round(self.validation_fraction * len(files)))
            if held_out >= len(files):
                raise ValueError(
                    f"packages: {package!r} has docstrings in {len(files)} files, too few for"
                    f" training and validation with validation_fraction={self.validation_fraction}"
                )
            for part, chosen in zip(parts, (files[held_out:], files[:held_out]), strict=True):
                part.extend((*self._words(text), label) for file in chosen for text in file)
        train, validation = parts
        counts = Counter(word for first, others, _ in train for word in first + others)
        # by frequency, and of the same frequency by name
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        known = {
            word: number
            for number, word in enumerate(
                frequent[: self.vocabulary_size - SEPARATOR - 1], SEPARATOR + 1
            )
        }
        encoded = [[self._encode(*text, known) for text in part] for part in (train, validation)]
        return encoded[0], encoded[1]

    def _words(self, text: str) -> tuple[Words, Words]:
        """Return the words of the first sentence, and of what follows it."""
        sentences = [*SENTENCE_END.split(text, maxsplit=1), ""][:2]
        first, others = (
            [word for word in WORD.findall(each.lower()) if word not in self.hidden]
            for each in sentences
        )
        first = first[: self.max_length - 3]
        return first, others[: self.max_length - 3 - len(first)]

    def _encode(
        self, first: Words, others: Words, label: int, known: dict[str, int]
    ) -> dict[str, Tensor]:
        first_ids, other_ids = (
            [known.get(word, UNKNOWN) for word in each] for each in (first, others)
        )
        ids = [START, *first_ids, SEPARATOR, *other_ids, SEPARATOR]
        types = [0] * (len(first_ids) + 2) + [1] * (len(other_ids) + 1)
        return {
            "input_ids": torch.tensor(ids),
            "token_type_ids": torch.tensor(types),
            "labels": torch.tensor(label),
        }

    def collate_fn(self) -> Callable[[list[Any]], Any]:
        """Return the collator that pads the texts of a batch to the longest one."""
        return pad_texts


def pad_texts(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return a batch of texts, padded at their ends, with an ``attention_mask``.

    Example:
        >>> texts = [{"input_ids": torch.ones(n, dtype=torch.long), "labels": torch.tensor(0),
        ...           "token_type_ids": torch.zeros(n, dtype=torch.long)} for n in (1, 2)]
        >>> pad_texts(texts)["attention_mask"]
        tensor([[1, 0],
                [1, 1]])
    """
    padded = {
        name: pad_sequence(
            [each[name] for each in samples], batch_first=True, padding_value=PADDING
        )
        for name in ("input_ids", "token_type_ids")
    }
    lengths = torch.tensor([len(each["input_ids"]) for each in samples])
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
    labels = torch.stack([each["labels"] for each in samples])
    return {**padded, "attention_mask": mask.long(), "labels": labels}
