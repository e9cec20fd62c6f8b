"""Families of networks that are not models of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdlight import MultiLabel, SingleInput
from tests.families.family import (
    CLASSES,
    VOCABULARY,
    Family,
    classes,
    pictures,
    seeded,
    sharp,
    text,
)


def pairs(number: int) -> tuple[Tensor, Tensor]:
    return pictures(number), classes(number)


def maps(number: int) -> tuple[Tensor, Tensor]:
    return pictures(number), classes(number, 16, 16)


def questions(number: int) -> tuple[Tensor, Tensor]:
    answers = torch.randint(2, (3 - number, CLASSES), generator=seeded(number)).double()
    answers[0, 1] = -100
    return pictures(number), answers


def unmarked_text(number: int) -> dict[str, Tensor]:
    return {name: value for name, value in text(number).items() if name != "attention_mask"}


class LSTM(nn.Module):
    """A language model that transformers does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0])


def cnn() -> nn.Module:
    body = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 16 * 16, CLASSES))


def plain(make: Any) -> Any:
    def seed_and_make(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return sharp(make()).double()

    return seed_and_make


def of_first(net: nn.Module, batch: Any) -> Tensor:
    return net(batch[0])


def of_tokens(net: nn.Module, batch: Any) -> Tensor:
    return net(batch["input_ids"])


def of_maps(net: nn.Module, batch: Any) -> Tensor:
    return net(batch[0]).movedim(1, -1)


def of_questions(net: nn.Module, batch: Any) -> Tensor:
    logits = net(batch[0])
    return torch.stack((torch.zeros_like(logits), logits), -1)


NETWORKS = {
    "cnn": Family(
        "a CNN with batch normalization", plain(cnn), pairs, "aligned",
        {"SingleInput": SingleInput}, logits=of_first,
    ),
    "maps": Family(
        "a CNN, classes of pixels", plain(lambda: nn.Conv2d(3, CLASSES, 1)), maps, "aligned",
        {"SingleInput": lambda net: SingleInput(net, class_dim=1)}, logits=of_maps,
    ),
    "questions": Family(
        "a CNN, several yes-or-no questions", plain(cnn), questions, "aligned",
        {"MultiLabel": lambda net: MultiLabel(SingleInput(net))}, logits=of_questions,
    ),
    "lstm": Family(
        "an LSTM", plain(LSTM), unmarked_text, "next token",
        {"SingleInput": lambda net: SingleInput(net, key="input_ids")}, logits=of_tokens,
    ),
}  # fmt: skip
