"""Passes of a student outside of its training step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.distributed.tensor import DTensor

from kdlight.callbacks.bilevel.weights import reshard
from kdlight.callbacks.inference.logit_inputs import logit_inputs
from kdlight.distributed.ranks import data_parallel_size, data_parallel_sum
from kdlight.models.evaluating import evaluating
from kdlight.modules.base import DistillationBase
from kdlight.objectives import CrossEntropy, LossInputs


def full_precision(trainer: Trainer) -> AbstractContextManager[Any]:
    """Compute in the precision of the weights: half precision would round small moves away."""
    plugin = trainer.precision_plugin
    return nullcontext() if isinstance(plugin, MixedPrecision) else plugin.forward_context()


def run_precision(trainer: Trainer) -> AbstractContextManager[Any]:
    """Compute in the precision of the run, except in float16, whose gradients need a scaler."""
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return full_precision(trainer)
    return trainer.precision_plugin.forward_context()


def with_teacher(module: DistillationBase, batch: Any) -> LossInputs:
    """Return the inputs of the loss, as in a training step."""
    student, teacher = module.student_logits(batch), module.frozen_teacher
    if teacher is not None and teacher.needs_student:
        answer = teacher.answer(batch, student, module.aligned_labels(batch))
    else:
        answer = module.teacher_logits(batch)
    if teacher is not None:
        student = teacher.mask_student(student)
    return module.make_loss_inputs(batch, student, answer)


def validation_gradient(
    trainer: Trainer, module: DistillationBase, batch: Any, weights: Sequence[Tensor]
) -> tuple[float, list[Tensor]]:
    """Return the mean cross-entropy of a batch in evaluation mode, and its gradient, of all ranks.

    Args:
        trainer: the trainer.
        module: the module.
        batch: the validation batch of this rank.
        weights: what to differentiate in.

    Raises:
        ValueError: The batch has no labels that are classes.
    """
    with evaluating(module), torch.enable_grad():
        with run_precision(trainer):
            inputs = logit_inputs(module, batch)
            if inputs.class_labels is None:
                raise ValueError(
                    "BilevelUpdate needs labels that are classes in the batches of its data loader,"
                    " but this batch has none"
                )
            loss = CrossEntropy()(inputs)
        sums = torch.stack([loss.total.detach().double(), loss.count.double()])
        total, count = data_parallel_sum(trainer, sums).tolist()
        gradients = _gradients(trainer, module, loss.total / max(count, 1.0), weights)
    return total / max(count, 1.0), gradients


def _gradients(
    trainer: Trainer, module: DistillationBase, loss: Tensor, weights: Sequence[Tensor]
) -> list[Tensor]:
    """Return the gradients of the sum of ``loss`` over ranks; those of the weights stay."""
    if not weights:
        return []
    if module.device_mesh is None:
        # not backward(), which would call the hooks of DDP and of optimizers
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return [
            data_parallel_sum(trainer, _dense(g, w)) for g, w in zip(found, weights, strict=True)
        ]
    # FSDP2 writes gradients of its shards, averaged over ranks, in a backward pass only
    own = [weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    try:
        (loss * data_parallel_size(trainer)).backward()
        reshard(module)
        return [_dense(weight.grad, weight) for weight in weights]
    finally:
        for weight, gradient in zip(weights, own, strict=True):
            weight.grad = gradient


def _dense(gradient: Tensor | None, weight: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros_like(weight)
    is_sparse = not isinstance(gradient, DTensor) and gradient.is_sparse
    return gradient.to_dense() if is_sparse else gradient
