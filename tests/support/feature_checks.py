"""Short fits of features with the real Trainer, and what is compared after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor

from tests.support import toy


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def run(each: Any, folder: Path, *, size: int = 8, **options: Any) -> Any:
    trainer = toy.trainer(folder, num_sanity_val_steps=0, limit_val_batches=0, **options)
    trainer.fit(each, toy.loader(size))
    return trainer


def trained(each: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in each.named_parameters()}


def assert_equal(first: Any, second: Any, tolerance: float = 1e-12) -> None:
    one, other = trained(first), trained(second)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance)


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []
        self.dtypes: set[torch.dtype] = set()

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        self.dtypes.add(loss.dtype)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.last_step is not None:
            self.values.append(pl_module.last_step.loss)
