"""One pass over the validation data: a student and its teacher in figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from math import isinf, prod
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from kdlight.distributed.ranks import reduce_over_data_parallel_ranks
from kdlight.metrics import DistillationMetrics
from kdlight.metrics.calibration import Curve
from kdlight.metrics.distillation import ROWS
from kdlight.modules import StandaloneModule
from kdlight.sources import LogitsSource, as_source


class Evaluation(NamedTuple):
    """Figures of two networks on the same data.

    Attributes:
        student: what `kdlight.metrics.DistillationMetrics` gives, ``parameters``, and
            ``per_second``, positions a second on this rank.
        teacher: the same of the teacher.
        unit: what a position is, a ``token`` of a sequence or a ``sample``.
        temperature: of the divergences.
        reliability: what a reliability diagram shows of each network, where there are labels.
    """

    student: dict[str, float]
    teacher: dict[str, float]
    unit: str
    temperature: float
    reliability: dict[str, Curve]


def evaluate(trainer: Trainer, module: StandaloneModule) -> Evaluation:
    """Figures of the student and of the teacher on the validation batches of all ranks.

    The networks are timed from the batch to logits at every position. Neither the random
    generators nor the mode of the module are changed.
    """
    metrics = DistillationMetrics(module.metrics.temperature).to(module.device)
    reduce_over_data_parallel_ranks(trainer, metrics)
    seconds, positions, unit = {"student": 0.0, "teacher": 0.0}, 0, "sample"
    with measuring(trainer, module):
        for batch in validation_batches(trainer, module):
            start = time.perf_counter()
            student = as_source(module.student_logits(batch))
            _make_logits(student)
            middle = time.perf_counter()
            teacher = module.teacher_logits(batch)
            if teacher is not None:
                _make_logits(as_source(teacher))
            seconds["student"] += middle - start
            seconds["teacher"] += time.perf_counter() - middle
            positions += prod(student.shape[:-1])
            unit = "token" if len(student.shape) > 2 else unit
            metrics.update(module.make_loss_inputs(batch, student, teacher))
    values = {name: value.item() for name, value in metrics.compute().items()}
    of_teacher = {name: v for name, v in values.items() if name.startswith("teacher_")}
    network = module.parts()["teacher"]
    return Evaluation(
        student={name: v for name, v in values.items() if name not in of_teacher}
        | _cost(module.student, positions, seconds["student"]),
        teacher={name.removeprefix("teacher_"): v for name, v in of_teacher.items()}
        | _cost(network, positions, seconds["teacher"]),
        unit=unit,
        temperature=module.metrics.temperature,
        reliability=metrics.reliability(),
    )


def _make_logits(source: LogitsSource) -> None:
    """Make all logits, a few positions at a time: they would not all fit."""
    for start in range(0, prod(source.shape[:-1]), ROWS):
        source.select(slice(start, start + ROWS)).logits()


@contextmanager
def measuring(trainer: Trainer, module: nn.Module) -> Iterator[None]:
    """Evaluate in the precision of the run, and leave no trace in it."""
    context = trainer.precision_plugin.forward_context()
    with isolate_rng(), torch.no_grad(), eval_mode(module), context:
        yield


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


def validation_batches(trainer: Trainer, module: LightningModule) -> Iterator[Any]:
    """The validation batches of this rank, on its device.

    Raises:
        ValueError: there are none.
    """
    loaders = trainer.val_dataloaders
    if loaders is None:
        raise ValueError(
            "there is no validation data to report on; give the run a val_dataloader, or leave the"
            " callback out (Report, TemperatureScaling)"
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
