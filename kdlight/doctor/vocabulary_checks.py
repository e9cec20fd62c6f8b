"""Check that token ids have the same meaning in the data, the student and the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.doctor.module_parts import student_part, teacher_part
from kdlight.models.pretrained import load_tokenizer
from kdlight.modules.base import DistillationBase
from kdlight.objectives import TokenObjective


def check_ids(module: DistillationBase, data: Any, batch: Any) -> Iterator[Finding]:
    """Yield findings about ids beyond a vocabulary, in a batch or in the tokenizer of the data."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    tokenizer: Any = getattr(data, "tokenizer", None)
    tokenizer_size = len(tokenizer) if hasattr(tokenizer, "__len__") else None
    for name, network in (("student", student_part(module)), ("teacher", teacher_part(module))):
        vocabulary = getattr(network, "vocab_size", None)
        if not isinstance(vocabulary, int):
            continue
        if isinstance(ids, Tensor) and ids.numel() and int(ids.max()) >= vocabulary:
            yield error(
                f"input_ids reach {int(ids.max())}, but the vocabulary of the {name} has"
                f" {vocabulary} entries: the tokenizer of the data is not that of the {name}"
            )
        elif tokenizer_size is not None and tokenizer_size > vocabulary:
            yield warning(
                f"the tokenizer of the data has {tokenizer_size} tokens, but the {name} has"
                f" {vocabulary} entries: a text with one of the last tokens would raise an error"
            )


def check_labels(labels: Tensor | None, *, valid: int, classes: int) -> Iterator[Finding]:
    """Yield findings about labels of a batch: no valid one, or one beyond the logits.

    Args:
        labels: aligned labels, or None.
        valid: the number of valid positions.
        classes: the width of the logits.
    """
    if labels is None:
        return
    if valid == 0:
        yield warning("the first training batch has no valid label")
    elif not torch.is_floating_point(labels) and int(labels.max()) >= classes:
        yield error(
            f"labels reach {int(labels.max())}, but the student has {classes} logits: labels start"
            " at 0, and must come from the tokenizer (or the classes) of the student"
        )


def check_tokenizers(module: DistillationBase, data: Any) -> Iterator[Finding]:
    """Yield findings about tokenizers of data, student and teacher that differ, where known."""
    sources = {
        name: _source(module.hparams.get(name)) for name in ("teacher", "student")
    }  # a student that is pruned from its teacher has no source of its own
    tokenizers: dict[str, Any] = {}
    if hasattr(data, "tokenizer"):
        sources["data"] = getattr(data, "tokenizer_source", None)
        tokenizers["data"] = data.tokenizer
    known = {name: source for name, source in sources.items() if isinstance(source, str)}
    if len(set(known.values())) < 2:
        return
    for name, source in known.items():
        if name not in tokenizers:
            try:
                tokenizers[name] = load_tokenizer(source)
            except ValueError as failure:
                yield warning(f"the tokenizer of the {name} could not be read: {reason(failure)}")
    first, *others = tokenizers
    for other in others:
        yield from _compare(module, (first, tokenizers[first]), (other, tokenizers[other]))


def _compare(
    module: DistillationBase, first: tuple[str, Any], second: tuple[str, Any]
) -> Iterator[Finding]:
    first_ids, second_ids = first[1].get_vocab(), second[1].get_vocab()
    moved = [
        token for token, number in first_ids.items() if second_ids.get(token, number) != number
    ]
    missing = [token for token in first_ids if token not in second_ids]
    if not moved and not missing:
        return
    example = (moved or missing)[0]
    text = (
        f"the tokenizers of {first[0]} and {second[0]} differ: {len(moved)} tokens have other ids,"
        f" and {len(missing)} of {len(first_ids)} are missing in the second, such as {example!r};"
        " the same id means different tokens"
    )
    compares_ids = any(
        isinstance(part, TokenObjective) and "teacher" in part.needs
        for part in module.objective.modules()
    )
    yield error(text) if moved and compares_ids else warning(text)


def _source(config: Any) -> str | None:
    """Return the first ``source`` in the config of a model."""
    if not isinstance(config, Mapping):
        return None
    if isinstance(config.get("source"), str):
        return config["source"]
    return next(filter(None, (_source(value) for value in config.values())), None)
