"""Do ids mean the same tokens to the data, the student and the teacher?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.models.pretrained import load_tokenizer
from kdlight.modules import StandaloneModule
from kdlight.objectives import TokenObjective


def check_ids(module: StandaloneModule, data: Any, batch: Any) -> Iterator[Finding]:
    """Findings about ids beyond a vocabulary: in a batch, and those a tokenizer may give."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    tokenizer: Any = getattr(data, "tokenizer", None)
    entries = len(tokenizer) if hasattr(tokenizer, "__len__") else None
    network = module.parts()["teacher"]
    for name, part in (("student", module.student), ("teacher", network)):
        vocabulary = getattr(part, "vocab_size", None)
        if not isinstance(vocabulary, int):
            continue
        if isinstance(ids, Tensor) and ids.numel() and int(ids.max()) >= vocabulary:
            yield error(
                f"input_ids reach {int(ids.max())}, but the vocabulary of the {name} has"
                f" {vocabulary} entries: the tokenizer of the data is not that of the {name}"
            )
        elif entries is not None and entries > vocabulary:
            yield warning(
                f"the tokenizer of the data has {entries} tokens, and the {name} {vocabulary}"
                " entries: a text with one of the last tokens would stop the run"
            )


def check_labels(labels: Tensor | None, *, kept: int, classes: int) -> Iterator[Finding]:
    """Findings about labels of a batch: none that counts, or one beyond the logits."""
    if labels is None:
        return
    if kept == 0:
        yield warning("no position of the first training batch has a label that counts")
    elif not torch.is_floating_point(labels) and int(labels.max()) >= classes:
        yield error(
            f"labels reach {int(labels.max())}, but the student has {classes} logits: labels count"
            " from 0, and must come from the tokenizer (or the classes) of the student"
        )


def check_tokenizers(module: StandaloneModule, data: Any) -> Iterator[Finding]:
    """Findings about tokenizers of which one is not another, as far as sources are known."""
    sources = {
        name: _source(module.hparams.get(name)) for name in ("teacher", "student")
    }  # a student cut from its teacher has no source of its own
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


def _compare(module: StandaloneModule, a: tuple[str, Any], b: tuple[str, Any]) -> Iterator[Finding]:
    mine, other = a[1].get_vocab(), b[1].get_vocab()
    moved = [token for token, number in mine.items() if other.get(token, number) != number]
    missing = [token for token in mine if token not in other]
    if not moved and not missing:
        return
    example = (moved or missing)[0]
    text = (
        f"the tokenizers of {a[0]} and {b[0]} differ: {len(moved)} tokens have other ids, and"
        f" {len(missing)} of {len(mine)} are unknown to the other, such as {example!r}; ids of the"
        " one mean something else to the other"
    )
    entry_by_entry = any(
        isinstance(part, TokenObjective) and "teacher" in part.needs
        for part in module.objective.modules()
    )
    yield error(text) if moved and entry_by_entry else warning(text)


def _source(config: Any) -> str | None:
    """The first ``source`` in the config of a model."""
    if not isinstance(config, Mapping):
        return None
    if isinstance(config.get("source"), str):
        return config["source"]
    return next(filter(None, (_source(value) for value in config.values())), None)
