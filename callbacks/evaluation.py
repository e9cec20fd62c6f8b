"""One pass over the validation data: a student and its teacher in figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from math import isinf
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from kdlight.logits import as_source
from kdlight.metrics import DistillationMetrics
from kdlight.modules import DistillationModule


def evaluate(trainer: Trainer, module: DistillationModule) -> dict[str, dict[str, float]]:
    """Figures of the student and of the teacher on the validation batches of all ranks.

    The networks are timed from the batch to logits at every position. Neither the random
    generators nor the mode of the module are changed.

    Returns:
        ``{"student": {...}, "teacher": {...}}``: what `kdlight.metrics.DistillationMetrics` gives,
        ``parameters``, and ``per_second``, positions a second on this rank.
    """
    metrics = DistillationMetrics(module.metrics.temperature).to(module.device)
    seconds, positions = {"student": 0.0, "teacher": 0.0}, 0
    context = trainer.precision_plugin.forward_context()
    with isolate_rng(), torch.no_grad(), eval_mode(module), context:
        for batch in _batches(trainer, module):
            start = time.perf_counter()
            student = as_source(module.student_logits(batch)).logits()
            middle = time.perf_counter()
            teacher = module.teacher_logits(batch)
            teacher = None if teacher is None else as_source(teacher).logits()
            seconds["student"] += middle - start
            seconds["teacher"] += time.perf_counter() - middle
            positions += student[..., 0].numel()
            metrics.update(module.make_step(batch, student, teacher))
    values = {name: value.item() for name, value in metrics.compute().items()}
    of_teacher = {name: v for name, v in values.items() if name.startswith("teacher_")}
    network = getattr(module.teacher, "model", None)
    return {
        "student": {name: v for name, v in values.items() if name not in of_teacher}
        | _cost(module.student, positions, seconds["student"]),
        "teacher": {name.removeprefix("teacher_"): v for name, v in of_teacher.items()}
        | _cost(network, positions, seconds["teacher"]),
    }


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every submodule is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _batches(trainer: Trainer, module: LightningModule) -> Iterator[Any]:
    loaders = trainer.val_dataloaders
    if loaders is None:
        raise ValueError(
            "there is no validation data to report on; give the run a val_dataloader, or leave the"
            " Report callback out"
        )
    loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
    for loader, limit in zip(loaders, trainer.num_val_batches, strict=True):
        for batch in islice(loader, None if isinf(limit) else int(limit)):
            yield trainer.strategy.batch_to_device(batch, module.device)


def _cost(network: Any, positions: int, seconds: float) -> dict[str, float]:
    if not isinstance(network, nn.Module):
        return {}
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": float(parameters), "per_second": positions / max(seconds, 1e-9)}
