"""Evaluate a student and its teacher in one pass over the validation data."""

from __future__ import annotations

import time
from math import prod
from typing import Any, NamedTuple

from lightning.pytorch import Trainer
from torch import nn

from kdlight.callbacks.inference.batches import validation_batches
from kdlight.callbacks.inference.context import inference_context
from kdlight.distributed.ranks import reduce_over_data_parallel_ranks
from kdlight.metrics import DistillationMetrics
from kdlight.metrics.calibration import Curve
from kdlight.metrics.distillation import ROWS
from kdlight.modules import StandaloneModule
from kdlight.modules.base import DistillationBase
from kdlight.sources import LogitsSource, as_source
from kdlight.teachers import Teacher


class Evaluation(NamedTuple):
    """Metrics of two networks on the same data.

    Attributes:
        student: the values of `kdlight.metrics.DistillationMetrics`, ``parameters``, and
            ``per_second``, the number of positions per second on this rank.
        teacher: the same for the teacher.
        unit: what a position is, a ``token`` of a sequence or a ``sample``.
        temperature: the temperature of the divergences.
        reliability: the reliability curve of each network, if there are labels.
    """

    student: dict[str, float]
    teacher: dict[str, float]
    unit: str
    temperature: float
    reliability: dict[str, Curve]


def evaluate(trainer: Trainer, module: DistillationBase) -> Evaluation:
    """Evaluate the student and the teacher on the validation batches of all ranks.

    The speed of a network is measured on the first batch, from the batch to the logits at every
    position. The states of the random generators and the training mode of the module are restored.
    """
    temperature = _temperature(module)
    metrics = DistillationMetrics(temperature).to(module.device)
    reduce_over_data_parallel_ranks(trainer, metrics)
    seconds, positions, unit = {"student": 0.0, "teacher": 0.0}, 0, "sample"
    with inference_context(trainer, module):
        for batch in validation_batches(trainer, module):
            is_timed = not positions  # the metrics compute all logits once more
            start = time.perf_counter()
            student = as_source(module.student_logits(batch))
            if is_timed:
                _compute_logits(student)
            middle = time.perf_counter()
            teacher = module.teacher_logits(batch)
            if is_timed:
                if teacher is not None:
                    _compute_logits(as_source(teacher))
                seconds = {"student": middle - start, "teacher": time.perf_counter() - middle}
                positions = prod(student.shape[:-1])
            if module.frozen_teacher is not None:
                student = as_source(module.frozen_teacher.mask_student(student))
            unit = "token" if len(student.shape) > 2 else unit
            metrics.update(module.make_loss_inputs(batch, student, teacher))
    values = {name: value.item() for name, value in metrics.compute().items()}
    teacher_values = {name: v for name, v in values.items() if name.startswith("teacher_")}
    return Evaluation(
        student={name: v for name, v in values.items() if name not in teacher_values}
        | _cost(module.student_network(), positions, seconds["student"]),
        teacher={name.removeprefix("teacher_"): v for name, v in teacher_values.items()}
        | _cost(_teacher_network(module), positions, seconds["teacher"]),
        unit=unit,
        temperature=temperature,
        reliability=metrics.reliability(),
    )


def _temperature(module: DistillationBase) -> float:
    """Return the temperature of the module's metrics, or of its objective."""
    if isinstance(module, StandaloneModule):
        return module.metrics.temperature
    return float(getattr(module.objective, "temperature", 1.0))


def _teacher_network(module: DistillationBase) -> Any:
    if isinstance(module, StandaloneModule):
        return module.parts()["teacher"]
    networks = module.teacher.networks() if isinstance(module.teacher, Teacher) else []
    return networks[0] if len(networks) == 1 else None


def _compute_logits(source: LogitsSource) -> None:
    """Compute all logits, a few positions at a time, as all at once may not fit into memory."""
    for start in range(0, prod(source.shape[:-1]), ROWS):
        source.select(slice(start, start + ROWS)).logits()


def _cost(network: Any, positions: int, seconds: float) -> dict[str, float]:
    if not isinstance(network, nn.Module):
        return {}
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": float(parameters), "per_second": positions / max(seconds, 1e-9)}
