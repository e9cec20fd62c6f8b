"""A module, the same with the mixin, their data, and the same training in plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.data import DataLoader, IterableDataset

from kdlight import DistillationMixin, DistillationModule, SingleInput
from kdlight.objectives import CrossEntropy, ForwardKL, Weighted
from tests.support import toy

WIDTH, CLASSES, TEMPERATURE, RATE = 6, 4, 2.0, 0.1
SIZES = (4, 4, 2, 5, 4, 3)
"""Sizes of the batches of an epoch, which differ, so that a mean of means is seen."""


def network(hidden: int, *, seed: int, normalized: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        norm = [nn.BatchNorm1d(hidden)] if normalized else []
        return nn.Sequential(nn.Linear(WIDTH, hidden), *norm, nn.Tanh(), nn.Linear(hidden, CLASSES))


def samples() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(sum(SIZES), WIDTH, generator=generator)
    y = torch.randint(CLASSES, (sum(SIZES),), generator=generator)
    return list(zip(x, y, strict=True))


class Sized:
    """A batch sampler with batches of the given sizes, in the order of the samples."""

    def __iter__(self) -> Iterator[list[int]]:
        start = 0
        for size in SIZES:
            yield list(range(start, start + size))
            start += size

    def __len__(self) -> int:
        return len(SIZES)


def loader() -> DataLoader:
    """Return the batches of an epoch."""
    return DataLoader(samples(), batch_sampler=Sized())  # type: ignore[arg-type]


class Stream(IterableDataset):
    """The same batches without a length."""

    def __iter__(self) -> Iterator[Any]:
        yield from loader()


class Plain(LightningModule):
    """A module that does not know kdlight."""

    def __init__(self, *, normalized: bool = False) -> None:
        super().__init__()
        self.net = network(5, seed=1, normalized=normalized)
        self.lr = RATE

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        loss = cross_entropy(self(batch[0]), batch[1])
        self.log("val/nll", loss, batch_size=len(batch[0]))

    test_step = validation_step

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Mixed(DistillationMixin, Plain):
    """The same module with a teacher."""

    def student_logits(self, batch: Any) -> Tensor:
        return self(batch[0])

    def teacher_logits(self, batch: Any) -> Any:
        return self.teacher(batch[0])


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=RATE)


def make(kind: str, *, normalized: bool = False) -> Any:
    """Return a ``module`` or a ``mixin`` with the same student, teacher and loss."""
    teacher = network(9, seed=2, normalized=normalized)
    if kind == "mixin":
        return Mixed(normalized=normalized).distill(ForwardKL(temperature=TEMPERATURE), teacher)
    return DistillationModule(
        student=SingleInput(network(5, seed=1, normalized=normalized)),
        teacher=SingleInput(teacher),
        objective=Weighted({"kd": ForwardKL(temperature=TEMPERATURE), "ce": CrossEntropy()}),
        optimizer=sgd,
    )


def student_of(module: Any) -> nn.Sequential:
    return module.net if isinstance(module, Mixed) else module.student.net


def train_loss(kind: str) -> str:
    return "distillation/loss" if kind == "mixin" else "train/loss"


def trainer(folder: Path, **options: Any) -> Trainer:
    defaults = {"max_epochs": 2, "devices": 1, "num_sanity_val_steps": 0}
    return toy.trainer(folder, **{**defaults, **options})


def by_hand(
    *,
    epochs: int = 2,
    accumulate: Any = 1,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    dtype: torch.dtype = torch.float32,
    normalized: bool = False,
    batches: int | None = None,
) -> nn.Sequential:
    """Train the student in plain PyTorch: one mean over all samples of an optimizer step.

    Args:
        accumulate: number of batches in a step, or a list with one number for each epoch.
    """
    student = network(5, seed=1, normalized=normalized).to(dtype)
    teacher = network(9, seed=2, normalized=normalized).eval()  # a teacher keeps its dtype
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE)
    for epoch in range(epochs):
        count = accumulate[epoch] if isinstance(accumulate, list) else accumulate
        data = list(loader())[:batches]
        for start in range(0, len(data), count):
            step = data[start : start + count]
            units = sum(len(x) for x, _ in step)
            optimizer.zero_grad()
            for x, y in step:
                (_loss(student, teacher, x.to(dtype), y) * len(x) / units).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(student.parameters(), clip_norm)
            if clip_value is not None:
                nn.utils.clip_grad_value_(student.parameters(), clip_value)
            optimizer.step()
    return student


def _loss(student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = student(x)
    with torch.no_grad():
        target = (teacher(x.float()).to(x) / TEMPERATURE).log_softmax(-1)
    kd = kl_div(
        (logits / TEMPERATURE).log_softmax(-1), target, log_target=True, reduction="batchmean"
    )
    return kd * TEMPERATURE**2 + cross_entropy(logits, y)


def by_hand_nll(student: nn.Module) -> float:
    """Return the mean cross-entropy of a student over all samples."""
    student = copy.deepcopy(student).eval()
    x, y = (torch.stack(each) for each in zip(*samples(), strict=True))
    with torch.no_grad():
        return cross_entropy(student(x).float(), y).item()


def assert_equal(got: nn.Module, expected: nn.Module, *, tolerance: float = 1e-5) -> None:
    for one, other in zip(got.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(
            one.detach().double(), other.detach().double(), rtol=tolerance, atol=tolerance
        )
