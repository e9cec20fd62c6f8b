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

from kdlight.data.label_positions import padding_mask
from kdlight.features.calls import ModuleCall
from kdlight.features.paths import FeaturePath
from kdlight.features.selection import output_feature
from kdlight.models.audio_frames import frame_mask
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
        batch: the batch, whose mask marks padding.
        network: the student, which may know how it shortens sound to frames.
        call_module: calls a module of the student, from its path, itself, args and kwargs.
        scale: the mean loss is multiplied by it for the computation of gradients, which are divided
            by it: gradients in float16 would underflow without.

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
        with own_precision(module, (args, kwargs)) as (args, kwargs):
            output = self.call_module(path, module, args, kwargs)
        feature = output_feature(path, FeaturePath.parse(path), output)
        inputs = self._loss_inputs(path, feature, target)
        total = self.objective.pair_loss(feature, target, inputs, pair)
        if self.is_training:
            scale = self._gradient_scale(inputs)
            found = torch.autograd.grad(total * scale, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    self._parameters.append(parameter)
                    # not in place, as several parameters may have the same tensor as gradient
                    self._gradients.append(gradient / scale if scale != 1 else gradient)
        self.totals[path] = total.detach()

    def _gradient_scale(self, inputs: LossInputs) -> float:
        # a sum over thousands of tokens would overflow float16, so the gradient is about their mean
        if self.scale == 1:
            return 1.0
        return self.scale * 2.0 ** -frexp(len(inputs.valid_positions()))[1]

    def _loss_inputs(self, path: str, feature: Tensor, target: Tensor) -> LossInputs:
        masks: dict[str, Tensor] = {}
        if feature.dim() == 3:
            mask = padding_mask(self.batch, feature.shape[:2], is_encoder_decoder=False)
            if mask is None:
                mask = frame_mask(self.network, self.batch, feature.shape[:2])
            masks = {} if mask is None else {path: mask}
        positions = target.shape[:1] if self.mask is None else self.mask.shape
        # logits of no memory: only their positions are read
        logits = Dense(target.new_zeros(()).expand(*positions, 1))
        inputs = LossInputs(logits, mask=self.mask, feature_masks=masks)
        self._inputs = inputs
        return inputs

    @property
    def inputs(self) -> LossInputs:
        """The valid positions."""
        assert self._inputs is not None
        return self._inputs

    def loss(self) -> Loss:
        """Return the mean loss of all modules, whose gradient for each is that of its own loss."""
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


class _ReadyGradients(Function):
    """A value whose gradients are known already."""

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
