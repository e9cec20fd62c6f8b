"""What a family of models is: two networks, batches, and what the networks make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlight import CausalLM, TransformersModel

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

VOCABULARY = 61
CLASSES = 5
LENGTHS = {0: (10, 7, 8), 1: (9, 3, 5)}
"""Lengths of the sequences of two batches."""


def as_it_is(network: nn.Module) -> nn.Module:
    return network


def own_logits(model: Any, batch: Any) -> Tensor:
    return model(**batch).logits


@dataclass(frozen=True)
class Family:
    """Networks of a kind, and what kdlight is told about them.

    Attributes:
        title: the family, for the page.
        make: the network itself, from a seed.
        batch: a batch, from 0 or 1.
        labels: where labels stand.
        ways: how a network is given to a module, by name.
        logits: the network's own logits, with the classes on the last axis.
        padding: the sides on which padding changes nothing.
        picture: the entry of a batch that is the picture.
        ignored: the label that marks positions which do not count.
        tolerance: of sums in other orders; parts of most models compute in float32.
    """

    title: str
    make: Callable[[int], nn.Module]
    batch: Callable[[int], Any]
    labels: Literal["next token", "aligned", "none"]
    ways: Mapping[str, Callable[[Any], nn.Module]] = field(default_factory=lambda: AS_IT_IS)
    logits: Callable[[Any, Any], Tensor] = own_logits
    padding: tuple[str, ...] = ()
    picture: str | None = None
    ignored: int = -100
    tolerance: float = 1e-6


AS_IT_IS: Mapping[str, Callable[[Any], nn.Module]] = {"as it is": as_it_is}
DECODER: Mapping[str, Callable[[Any], nn.Module]] = {**AS_IT_IS, "CausalLM": CausalLM.wrap}
ENCODER: Mapping[str, Callable[[Any], nn.Module]] = {
    **AS_IT_IS,
    "TransformersModel": TransformersModel.wrap,
}


def sharp(network: nn.Module, factor: float = 4.0) -> nn.Module:
    """Raise small weights, so that logits of two networks differ."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1 and parameter.std() < 0.06:
                parameter.mul_(factor)
            if parameter.dim() > 1 and not parameter.any():  # of an adapter that starts at zero
                parameter.normal_(std=0.2)
    return network.eval()


def maker(
    model: str, config: str, *, dtype: torch.dtype = torch.float64, **sizes: Any
) -> Callable[[int], nn.Module]:
    """Return what makes a model of transformers from a seed."""

    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = getattr(transformers, model)(getattr(transformers, config)(**sizes))
            return sharp(made).to(dtype)

    return make


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(100 + number)


def tokens(number: int, *, low: int = 3) -> dict[str, Tensor]:
    """Return sequences with padding on the right."""
    lengths = torch.tensor(LENGTHS[number])
    size = (len(lengths), int(lengths.max()))
    mask = (torch.arange(size[1]) < lengths[:, None]).long()
    ids = torch.randint(low, VOCABULARY, size, generator=seeded(number)) * mask
    return {"input_ids": ids, "attention_mask": mask}


def text(number: int) -> dict[str, Tensor]:
    """Return text whose first two tokens, of one row, are a prompt that is not learned."""
    batch = tokens(number)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[0, :2] = -100
    return {**batch, "labels": labels}


def masked_text(number: int) -> dict[str, Tensor]:
    """Return text of which some tokens are hidden, which are the labels."""
    batch = tokens(number, low=5)
    chosen = torch.rand(batch["input_ids"].shape, generator=seeded(number)) < 0.4
    chosen[:, 0] = True
    chosen &= batch["attention_mask"] == 1
    labels = batch["input_ids"].masked_fill(~chosen, -100)
    return {**batch, "input_ids": batch["input_ids"].masked_fill(chosen, 4), "labels": labels}


def tagged_text(number: int) -> dict[str, Tensor]:
    batch = tokens(number)
    tags = torch.randint(CLASSES, batch["input_ids"].shape, generator=seeded(number))
    return {**batch, "labels": tags.masked_fill(batch["attention_mask"] == 0, -100)}


def classified_text(number: int) -> dict[str, Tensor]:
    batch = tokens(number)
    return {**batch, "labels": torch.randint(CLASSES, (3,), generator=seeded(number))}


def translated_text(number: int) -> dict[str, Tensor]:
    """Return sources, and targets of another length, some of which are padding."""
    labels = torch.randint(3, VOCABULARY, (3, 6 - number), generator=seeded(number))
    labels[1, 3:] = -100
    return {**tokens(number), "labels": labels}


def pictures(number: int, size: int = 16) -> Tensor:
    shape = (3 - number, 3, size, size)
    return torch.randn(shape, generator=seeded(number), dtype=torch.float64)


def classes(number: int, *shape: int, ignored: int = -100) -> Tensor:
    labels = torch.randint(CLASSES, (3 - number, *shape), generator=seeded(number))
    labels.view(-1)[-1] = ignored
    return labels


# ---- the same batches with other padding


def without_padding(batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the rows of a batch, each without its padding."""
    shape = batch["attention_mask"].shape
    return [
        {
            name: value[row : row + 1, :length]
            if value.shape[:2] == shape
            else value[row : row + 1]
            for name, value in batch.items()
        }
        for row, length in enumerate(batch["attention_mask"].sum(-1).tolist())
    ]


def padded_left(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch with the padding of each row before its tokens."""
    shape = batch["attention_mask"].shape
    shifts = (shape[1] - batch["attention_mask"].sum(-1)).tolist()
    return {
        name: torch.stack([row.roll(shift, 0) for row, shift in zip(value, shifts, strict=True)])
        if value.shape[:2] == shape
        else value
        for name, value in batch.items()
    }
