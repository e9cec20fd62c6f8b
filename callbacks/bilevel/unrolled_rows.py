"""What a change of each row's ratio would do to the validation loss after the next step."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer

from kdlight.callbacks.bilevel.fusion_term import fusion_term
from kdlight.callbacks.bilevel.row_slopes import exact, finite_differences
from kdlight.callbacks.bilevel.seeding import seed
from kdlight.callbacks.bilevel.student_passes import (
    full_precision,
    validation_gradient,
    with_teacher,
)
from kdlight.callbacks.bilevel.weights import moved_weights, norm, reshard
from kdlight.callbacks.inference.logit_inputs import logit_inputs
from kdlight.modules.base import DistillationBase
from kdlight.modules.guards import NonFiniteLossError
from kdlight.objectives import LossInputs
from kdlight.reduce import token_values


class UnrolledRows(NamedTuple):
    """The valid positions of a micro-batch.

    Attributes:
        features: the input of the ratio network, ``(n, F)``.
        slopes: how much the advantage of the teacher's term over the label's, in each row, changes
            along the learning rate times the gradient of the validation loss, ``(n,)``; None where
            there is no such direction, as at a learning rate of 0.
        loss: the cross-entropy of the validation batch after the step.
    """

    features: Tensor
    slopes: Tensor | None
    loss: float


def unrolled_rows(
    trainer: Trainer,
    module: DistillationBase,
    optimizer: Optimizer,
    batch: Any,
    held_out: Any,
    *,
    exactly: bool,
    epsilon: float,
) -> UnrolledRows:
    """Unroll one step of gradient descent, evaluate it, and differentiate the result in each row.

    Weights are as before at the end; the caller restores buffers and random numbers.

    Args:
        trainer: the trainer, before an optimizer step.
        module: the module, with the gradients of the step.
        optimizer: the optimizer of the student, which has the learning rates.
        batch: the micro-batch.
        held_out: the validation batch.
        exactly: by autograd instead of a finite difference.
        epsilon: length of the move of a finite difference.

    Raises:
        NonFiniteLossError: The validation loss or its gradient is not finite.
    """
    fusion, step = fusion_term(module.objective).fusion, trainer.global_step
    rates = {id(p): float(g["lr"]) for g in optimizer.param_groups for p in g["params"]}
    objective = {id(p) for p in module.objective.parameters()}
    reshard(module)  # whose parameters are the shards from here on
    weights = [
        p
        for p in module.parameters()
        if p.grad is not None and rates.get(id(p)) and id(p) not in objective
    ]
    lrs = [rates[id(p)] for p in weights]

    seed(step, module.device)
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        inputs = with_teacher(module, batch)
        features = _over_rows(fusion.features, inputs, module)
    reshard(module)

    def advantages() -> Tensor:
        # the features and the ratios stay those of the weights themselves: the ratio is a constant
        # of the training loss
        seed(step, module.device)
        with full_precision(trainer):
            moved_inputs = replace(logit_inputs(module, batch), teacher=inputs.teacher)
            values = _over_rows(fusion.advantage, moved_inputs, module, dense=exactly)
        reshard(module)
        return values

    with moved_weights(weights) as moved:
        moved.to([_dense(p.grad) * lr for p, lr in zip(weights, lrs, strict=True)], -1.0)
        loss, direction = validation_gradient(trainer, module, held_out, weights)
        moved.back()
        for along, lr in zip(direction, lrs, strict=True):
            along.mul_(lr)
        length = norm(trainer, direction)
        if not isfinite(loss) or not isfinite(length):
            raise NonFiniteLossError(
                f"the validation loss of BilevelUpdate in optimizer step {step} is {loss}, and its"
                f" gradient has a norm of {length}; check the learning rate of the student, and the"
                " batches of the data loader of BilevelUpdate"
            )
        if not length:
            slopes = None
        elif exactly:
            slopes = exact(advantages, weights, direction)
        else:
            slopes = finite_differences(advantages, moved, direction, epsilon / length)
    return UnrolledRows(features, slopes, loss)


def _over_rows(
    rule: Any, inputs: LossInputs, module: DistillationBase, *, dense: bool = False
) -> Tensor:
    """Evaluate a rule on the valid positions, ``(n, ...)``."""
    return token_values(
        rule,
        inputs.student,
        inputs.teacher,
        inputs.class_labels,
        inputs.mask,
        chunked=False if dense else module.chunked,
    )


def _dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.to_dense() if gradient.is_sparse else gradient
