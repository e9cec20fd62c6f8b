"""One pass of a teacher in which modules of a student learn, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import frexp
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from kdlight.features.calls import ModuleCall
from kdlight.features.paths import FeaturePath
from kdlight.features.selection import output_feature
from kdlight.modules.feature_masks import feature_masks
from kdlight.modules.layer_arguments import layer_arguments
from kdlight.modules.layer_loss import LayerLoss
from kdlight.objectives import Loss, LossInputs
from kdlight.sources import Dense
from kdlight.teachers.precision import own_precision


class LayerPass:
    """Evaluates the modules of a student while its teacher runs, and computes their gradients.

    At the end of each call of a teacher module, its student modules run on the same arguments, and
    their gradients are computed at once. So the activations of one student module exist at a time,
    however many there are.

    Args:
        loss: compares the outputs.
        modules: the student's modules by path.
        mask: the valid positions of the batch, ``(B,)`` or ``(B, T)``; None if all samples are.
        batch: the batch, whose ``attention_mask`` marks padding.
        network: the student; a model of sound tells which frames are padding.
        call_module: calls a module of the student, from its path, itself, args and kwargs.
        scale: the loss is multiplied by it before gradients are computed, and these are divided by
            it afterwards, so that gradients in float16 do not underflow.

    Attributes:
        totals: the sum of each module's loss over the valid positions, by path.

    Example:
        >>> layer, batch = nn.Linear(2, 3), torch.ones(4, 2)
        >>> run = LayerPass(LayerLoss({"a": "b"}), {"a": layer}, None, batch)
        >>> run.observe(ModuleCall("b", (batch,), {}, layer(batch).detach() + 1))
        >>> run.loss().mean(), run.loss().total.requires_grad
        (tensor(1., grad_fn=<DivBackward0>), True)
    """

    def __init__(
        self,
        loss: LayerLoss,
        modules: Mapping[str, nn.Module],
        mask: Tensor | None,
        batch: Any,
        network: nn.Module | None = None,
        call_module: Callable[..., Any] = lambda path, module, args, kwargs: module(
            *args, **kwargs
        ),
        *,
        scale: float = 1.0,
    ) -> None:
        self.objective, self.modules, self.mask, self.batch = loss, modules, mask, batch
        self.network, self.call_module, self.scale = network, call_module, scale
        self.is_training = torch.is_grad_enabled()
        self.totals: dict[str, Tensor] = {}
        self._parameters: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._inputs: LossInputs | None = None

    def observe(self, call: ModuleCall) -> None:
        """Evaluate the student's modules that learn from a teacher's module, after its call."""
        for pair, (path, theirs) in enumerate(self.objective.paths.items()):
            if theirs == call.path:
                with torch.set_grad_enabled(self.is_training):
                    self._learn(pair, path, call)

    def _learn(self, pair: int, path: str, call: ModuleCall) -> None:
        module = self.modules[path]
        parameters = [p for p in module.parameters() if p.requires_grad]
        _, args, kwargs, target = call
        device = next((p.device for p in module.parameters()), target.device)
        if target.device != device:
            args, kwargs, target = move_data_to_device((args, kwargs, target), device)
        args, kwargs = layer_arguments(module, args, kwargs, self.batch)
        with own_precision(module, (args, kwargs)) as (args, kwargs):
            try:
                output = self.call_module(path, module, args, kwargs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise RuntimeError(
                    f"the module {path!r} of the student cannot be called with what the module"
                    f" {call.path!r} of the teacher gets: {error}"
                ) from error
        feature = output_feature(path, FeaturePath.parse(path), output)
        inputs = self._loss_inputs(path, feature, target)
        total = self.objective.pair_loss(feature, target, inputs, pair)
        if self.is_training:
            _check_graph(path, total)
            scale = self._gradient_scale(inputs)
            found = torch.autograd.grad(total * scale, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    self._parameters.append(parameter)
                    # not in place, as several parameters may have the same tensor as gradient
                    self._gradients.append(gradient / scale if scale != 1 else gradient)
        self.totals[path] = total.detach()

    def _gradient_scale(self, inputs: LossInputs) -> float:
        # the gradient of a sum over thousands of tokens would overflow float16; that of about their
        # mean, divided by a power of two, does not
        if self.scale == 1:
            return 1.0
        return self.scale * 2.0 ** -frexp(len(inputs.valid_positions()))[1]

    def _loss_inputs(self, path: str, feature: Tensor, target: Tensor) -> LossInputs:
        masks = feature_masks({path: feature}, self.batch, self.network)
        positions = target.shape[:1] if self.mask is None else self.mask.shape
        # only the positions of these logits are read, so they take no memory
        logits = Dense(target.new_zeros(()).expand(*positions, 1))
        inputs = LossInputs(logits, mask=self.mask, feature_masks=masks)
        self._inputs = inputs
        return inputs

    @property
    def inputs(self) -> LossInputs:
        """The valid positions of the batch, as inputs whose logits mean nothing."""
        assert self._inputs is not None
        return self._inputs

    def loss(self) -> Loss:
        """Return the mean of the losses of all modules, with the gradients computed so far.

        Each module gets the gradient of its own loss, not divided by the number of modules.
        """
        totals = [self.totals[path] for path in self.objective.paths]
        mean = torch.stack(totals).mean()
        count = (
            torch.full((), self.inputs.student.shape[0], device=mean.device)
            if self.mask is None
            else self.mask.sum()
        )
        if self.is_training:
            mean = _ReadyGradients.apply(mean, self._gradients, *self._parameters)
        parts = {f"modules/{path}": self.totals[path] for path in self.objective.paths}
        return Loss(mean, count, parts)  # type: ignore[arg-type]


def _check_graph(path: str, total: Tensor) -> None:
    if not total.requires_grad:
        raise ValueError(
            f"the output of the module {path!r} of the student has no gradient: the module detaches"
            " it, or uses gradient checkpointing with use_reentrant=True, which needs a gradient of"
            " the module's input; use use_reentrant=False"
        )


class _ReadyGradients(Function):
    """A value whose gradients were computed before, and are only scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:  # noqa: D102
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        if ctx.gradients is None:
            raise RuntimeError(
                "the gradients of this loss were computed with its value and are used up; call"
                " backward() once"
            )
        gradients, ctx.gradients = ctx.gradients, None
        scaled: list[Tensor | None] = []
        for number, gradient in enumerate(gradients):
            scaled.append(gradient * grad.to(gradient))
            gradients[number] = None  # frees one before the next is computed
        return (None, None, *scaled)
