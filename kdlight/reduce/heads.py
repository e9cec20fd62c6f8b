"""Providers of logits from hidden states and a head, which propagate gradients back to both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.sources import Projected

FLOAT16_SCALE = 2.0**8
"""Factor of float16 gradients while they pass through the products, so that few underflow."""


class LinearHeadChunks:
    """A `torch.nn.Linear` as head: one buffer for the logits, which their gradients overwrite."""

    def __init__(self, source: Projected, tokens: int) -> None:
        hidden, head = source.hidden, source.head
        assert isinstance(head, nn.Linear)
        self.inputs = (hidden, head.weight, *([] if head.bias is None else [head.bias]))
        # like autocast: one copy of the head per call, in the dtype of the products
        dtype = _product_dtype(hidden)
        self.hidden, self.weight, *bias = (each.detach().to(dtype) for each in self.inputs)
        self.bias = bias[0] if bias else None
        rows = min(tokens, len(hidden))
        self.logits = self.buffer = self.hidden.new_empty(rows, len(self.weight))
        self.d_hidden: Tensor | None = None
        self.d_weight: Tensor | None = None
        self.d_bias: Tensor | None = None
        self.product: Tensor | None = None
        self.scale = FLOAT16_SCALE if dtype == torch.float16 else 1.0

    def begin(self, rows: slice) -> None:
        """Compute the logits of a chunk."""
        self.logits = self.buffer[: rows.stop - rows.start]
        if self.bias is None:
            torch.mm(self.hidden[rows], self.weight.t(), out=self.logits)
        else:
            torch.addmm(self.bias, self.hidden[rows], self.weight.t(), out=self.logits)

    def block(self, part: slice, student: Tensor | None = None) -> Tensor:
        """Return the logits ``(m, V)`` of a part of the chunk."""
        return self.logits[part]

    def require_grad(self, needed: Sequence[bool]) -> None:
        """Allocate the gradients of some of the inputs; sums are in float32 or wider."""
        sums = torch.promote_types(self.weight.dtype, torch.float32)
        if needed[0]:
            self.d_hidden = torch.empty_like(self.hidden)
        if needed[1]:
            self.d_weight = torch.zeros_like(self.weight, dtype=sums)
            if sums != self.weight.dtype:
                self.product = torch.empty_like(self.weight)
        if self.bias is not None and needed[2]:
            self.d_bias = torch.zeros_like(self.bias, dtype=sums)

    def set_grad(self, part: slice, grad: Tensor) -> None:
        """Overwrite the logits of a part with their gradient."""
        self.logits[part].copy_(grad if self.scale == 1 else grad * self.scale)

    def backward(self, rows: slice) -> None:
        """Propagate the gradient of the chunk to hidden states and head."""
        if self.d_hidden is not None:
            torch.mm(self.logits, self.weight, out=self.d_hidden[rows])
        if self.d_weight is not None and self.product is not None:
            self.d_weight.add_(torch.mm(self.logits.t(), self.hidden[rows], out=self.product))
        elif self.d_weight is not None:
            self.d_weight.addmm_(self.logits.t(), self.hidden[rows])
        if self.d_bias is not None:
            self.d_bias.add_(self.logits.sum(0, dtype=self.d_bias.dtype))

    def gradients(self) -> list[Tensor | None]:
        """Return the gradient of each input, None where it is not needed."""
        grads = (self.d_hidden, self.d_weight, self.d_bias)
        return [
            None if d is None else (d if self.scale == 1 else d.div_(self.scale)).to(x.dtype)
            for d, x in zip(grads, self.inputs, strict=False)
        ]


class ModuleHeadChunks:
    """A head of any kind, such as one with an adapter, differentiated by autograd."""

    def __init__(self, source: Projected) -> None:
        assert isinstance(source.head, nn.Module)
        self.head = source.head
        self.parameters = [p for p in source.head.parameters() if p.requires_grad]
        self.inputs = (source.hidden, *self.parameters)
        self.hidden = source.hidden.detach()
        # the loop over chunks disables autocast; the head runs under that of the model
        device = self.hidden.device.type
        enabled = torch.is_autocast_enabled(device)
        self.autocast = {"dtype": torch.get_autocast_dtype(device), "enabled": enabled}
        self.needed: Sequence[bool] = ()
        self.sums: list[Tensor | None] = []

    def begin(self, rows: slice) -> None:
        """Compute the logits of a chunk, with a graph if gradients are needed."""
        self.leaf = self.hidden[rows].requires_grad_(any(self.needed) and self.needed[0])
        grad_mode = torch.set_grad_enabled(any(self.needed))
        with grad_mode, torch.autocast(self.hidden.device.type, **self.autocast):
            self.output = self.head(self.leaf)
        self.logits = self.output.detach()
        self.grad = torch.empty_like(self.logits) if any(self.needed) else self.logits

    def block(self, part: slice, student: Tensor | None = None) -> Tensor:
        """Return the logits ``(m, V)`` of a part of the chunk."""
        return self.logits[part]

    def require_grad(self, needed: Sequence[bool]) -> None:
        """Prepare for the gradients of some of the inputs."""
        self.needed = needed
        self.sums = [
            torch.zeros_like(each) if need else None
            for each, need in zip(self.inputs, needed, strict=True)
        ]

    def set_grad(self, part: slice, grad: Tensor) -> None:
        """Store the gradient of a part."""
        self.grad[part].copy_(grad)

    def backward(self, rows: slice) -> None:
        """Differentiate the head on the chunk."""
        inputs = (self.leaf, *self.parameters)
        needed = [number for number, need in enumerate(self.needed) if need]
        grads = torch.autograd.grad(
            self.output, [inputs[number] for number in needed], self.grad, allow_unused=True
        )
        for number, gradient in zip(needed, grads, strict=True):
            total = self.sums[number]
            if total is not None and gradient is not None:
                (total if number else total[rows]).add_(gradient)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradient of each input, None where it is not needed."""
        return self.sums


def is_plain_linear(head: object) -> bool:
    """Return whether ``head`` is a product with its weight (and a bias) and nothing else."""
    return (
        type(head) is nn.Linear
        and not (head._forward_hooks or head._forward_pre_hooks)
        and all(type(p) in (Tensor, nn.Parameter) for p in head.parameters())
    )


def _product_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype
