"""A student that has learned from the labels, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LinearLR

from kdlight.distributed.ranks import data_parallel_sum
from kdlight.modules import DistillationBase
from kdlight.modules.optimizers import trainable
from kdlight.objectives import CrossEntropy


@contextmanager
def taught_student(
    trainer: Trainer, module: DistillationBase, batches: Iterator[Any], steps: int, lr: float
) -> Iterator[None]:
    """Train the student on the labels, run the block, and give the student its weights back.

    Gradients are summed over ranks, whose students stay equal.

    Args:
        trainer: the trainer of the run.
        module: the module, whose student is not sharded.
        batches: training batches, on its device.
        steps: optimizer steps; 0 leaves the student as it is.
        lr: learning rate of AdamW, which decays linearly to 0.
    """
    student = module.student_network()
    if not steps:
        yield
        return
    before = {name: value.clone() for name, value in student.state_dict().items()}
    modes = [(part, part.training) for part in student.modules()]
    try:
        try:
            _train(trainer, module, student, islice(batches, steps), steps, lr)
        finally:
            student.zero_grad()
            for part, mode in modes:
                part.training = mode
        yield
    finally:
        student.load_state_dict(before)


def _train(
    trainer: Trainer,
    module: DistillationBase,
    student: nn.Module,
    batches: Iterator[Any],
    steps: int,
    lr: float,
) -> None:
    parameters = trainable(student)
    optimizer = AdamW(parameters, lr=lr)
    decay = LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    student.train()
    for batch in batches:
        with trainer.precision_plugin.forward_context():
            logits = module.student_logits(batch)
        loss = CrossEntropy()(module.make_loss_inputs(batch, logits, None))
        # hooks of DDP would wait for the gradients of all other parameters
        found = torch.autograd.grad(loss.total, parameters, allow_unused=True)
        count = data_parallel_sum(trainer, loss.count.double()).clamp(min=1).item()
        for parameter, grad in zip(parameters, found, strict=True):
            grad = torch.zeros_like(parameter) if grad is None else grad
            parameter.grad = data_parallel_sum(trainer, grad) / count
        optimizer.step()
        decay.step()
