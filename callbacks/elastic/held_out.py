"""The divergence of a student from its teacher on held-out batches."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from kdlight import losses
from kdlight.callbacks.inference.logit_inputs import logit_inputs
from kdlight.distributed.ranks import data_parallel_sum
from kdlight.metrics.distillation import ROWS
from kdlight.models.evaluating import evaluating
from kdlight.modules import StandaloneModule
from kdlight.modules.base import DistillationBase
from kdlight.objectives import LossInputs


def kl_sum(inputs: LossInputs, temperature: float = 1.0) -> Tensor:
    """Return the sum of KL(teacher || student) over valid positions, and their number, (2,).

    Raises:
        ValueError: There are no logits of a teacher at the positions of the student's.

    Example:
        >>> logits = torch.zeros(4, 7)
        >>> kl_sum(LossInputs(logits, logits))
        tensor([0., 4.], dtype=torch.float64)
    """
    if inputs.teacher is None or inputs.teacher_mask is not None:
        raise ValueError(
            "the held-out KL compares the logits of the student with those of a teacher at the same"
            " positions, and there are none; set validate_depths=[] and max_parameters=None"
        )
    total = torch.zeros((), dtype=torch.float64)
    rows = inputs.valid_positions()
    for each in rows.split(ROWS):
        student = inputs.student.select(each).logits()
        teacher = inputs.teacher.select(each).given_student(student)
        values = losses.forward_kl(student, teacher, temperature=temperature)
        total += values.sum().cpu().double()
    return torch.stack([total, torch.tensor(rows.numel(), dtype=torch.float64)])


def held_out_kl(module: DistillationBase, batches: Iterable[Any]) -> float:
    """Return the mean of KL(teacher || student) over the valid positions of batches.

    The temperature is that of the validation metrics. Give this to
    `kdlight.models.rank_layers`, which calls it once for each sub-network.

    Args:
        module: a module with a student and a teacher; its mode and random state are restored.
        batches: the batches, on the device of the module.

    Raises:
        ValueError: There is no valid position, or no teacher.

    Example:
        >>> from torch import nn
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import ForwardKL
        >>> student, teacher = SingleInput(nn.Linear(4, 3)), SingleInput(nn.Linear(4, 3))
        >>> module = DistillationModule(student, ForwardKL(), teacher)
        >>> held_out_kl(module, [(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))]) > 0
        True
    """
    trainer = module._trainer
    precision = nullcontext() if trainer is None else trainer.precision_plugin.forward_context()
    total = torch.zeros(2, dtype=torch.float64)
    with isolate_rng(), torch.no_grad(), evaluating(module), precision:
        for batch in batches:
            inputs = logit_inputs(module, batch, module.teacher_logits(batch))
            total += kl_sum(inputs, metrics_temperature(module))
    if trainer is not None:
        total = data_parallel_sum(trainer, total).cpu()
    if not total[1]:
        raise ValueError("batches must have valid positions to compute a KL on, and have none")
    return float(total[0] / total[1])


def metrics_temperature(module: DistillationBase) -> float:
    """Return the temperature of a module's validation metrics, or of its objective.

    Example:
        >>> from torch import nn
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import ForwardKL
        >>> student, teacher = SingleInput(nn.Linear(4, 3)), SingleInput(nn.Linear(4, 3))
        >>> metrics_temperature(DistillationModule(student, ForwardKL(temperature=2.0), teacher))
        2.0
    """
    if isinstance(module, StandaloneModule):
        return module.metrics.temperature
    return float(getattr(module.objective, "temperature", 1.0))
