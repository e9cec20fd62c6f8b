"""Providers of logits from hidden states and a head, which propagate gradients back to both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlight.checks import can_read
from kdlight.losses.recompute import current_autocast
from kdlight.sources import Projected

HIGHEST_EXPONENT = 8
"""The largest gradient of a chunk is scaled to about 2 to this power while float16 gradients pass
through the products, so that few of them underflow, and sums of them do not overflow."""


class LinearHeadChunks:
    """A `torch.nn.Linear` as head: one buffer for the logits, which their gradients overwrite."""

    def __init__(self, source: Projected, tokens: int) -> None:
        hidden, head = source.hidden, source.head
        assert isinstance(head, nn.Linear)
        self.inputs = (hidden, head.weight, *([] if head.bias is None else [head.bias]))
        # like autocast: one copy of the head per call, in the dtype of the products
        dtype = product_dtype(hidden)
        self.hidden, self.weight, *bias = (each.detach().to(dtype) for each in self.inputs)
        self.bias = bias[0] if bias else None
        rows = min(tokens, len(hidden))
        self.logits = self.buffer = self.hidden.new_empty(rows, len(self.weight))
        self.d_hidden: Tensor | None = None
        self.d_weight: Tensor | None = None
        self.d_bias: Tensor | None = None
        self.product: Tensor | None = None
        self.scale: Tensor | None = None  # of the chunk, in float16 only

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
            self.d_hidden = torch.empty_like(self.inputs[0], requires_grad=False)
        if needed[1]:
            self.d_weight = torch.empty_like(self.weight, dtype=sums)  # the first chunk fills it
            if sums != self.weight.dtype:
                self.product = torch.empty_like(self.weight)
        if self.bias is not None and needed[2]:
            self.d_bias = torch.zeros_like(self.bias, dtype=sums)

    def set_grad(self, part: slice, grad: Tensor) -> None:
        """Overwrite the logits of a part with their gradient."""
        if self.weight.dtype == torch.float16 and grad.numel():
            grad = grad * self._scaled_for(part, grad)
        self.logits[part].copy_(grad)

    def _scaled_for(self, part: slice, grad: Tensor) -> Tensor:
        """Return the scale of the chunk, lowered if ``grad`` is larger than those before it."""
        exponent = grad.abs().amax().float().frexp().exponent
        scale = torch.ldexp(torch.ones((), device=grad.device), HIGHEST_EXPONENT - exponent)
        if part.start and self.scale is not None:
            scale = torch.minimum(scale, self.scale)
            self.logits[: part.start].mul_(scale / self.scale)
        self.scale = scale
        return scale

    def backward(self, rows: slice) -> None:
        """Propagate the gradient of the chunk to hidden states and head."""
        if self.d_hidden is not None:
            if self.d_hidden.dtype == self.logits.dtype and self.scale is None:
                torch.mm(self.logits, self.weight, out=self.d_hidden[rows])
            else:
                self.d_hidden[rows] = self._product(self.logits, self.weight)
        if self.d_weight is not None:
            factors = self.logits.t(), self.hidden[rows]
            if self.product is None:
                self.d_weight.addmm_(*factors, beta=1.0 if rows.start else 0.0)
            elif rows.start:
                self.d_weight.add_(self._product(*factors, self.product))
            else:
                self.d_weight.copy_(self._product(*factors, self.product))
        if self.d_bias is not None:
            total = self.logits.sum(0, dtype=self.d_bias.dtype)
            self.d_bias.add_(total if self.scale is None else total / self.scale)

    def _product(self, first: Tensor, second: Tensor, out: Tensor | None = None) -> Tensor:
        """Multiply in the dtype of the products; the scale of float16 is divided out in float32."""
        if self.scale is None:
            return torch.mm(first, second, out=out)
        if not can_read(first):
            return _mm_to_float32(first, second).div_(self.scale)
        product = torch.mm(first, second, out=out).float()
        if not bool(product.isfinite().all()):  # a sum overflowed, which in float32 it does not
            product = torch.mm(first.float(), second.float())
        return product.div_(self.scale)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradient of each input, None where it is not needed."""
        grads = (self.d_hidden, self.d_weight, self.d_bias)
        return [
            None if d is None else d.to(x.dtype) for d, x in zip(grads, self.inputs, strict=False)
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
        self.autocast = current_autocast(self.hidden.device)
        self.needed: Sequence[bool] = ()
        self.sums: list[Tensor | None] = []

    def begin(self, rows: slice) -> None:
        """Compute the logits of a chunk, with a graph if gradients are needed."""
        self.leaf = self.hidden[rows].requires_grad_(any(self.needed) and self.needed[0])
        with torch.set_grad_enabled(any(self.needed)), self.autocast():
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


def _mm_to_float32(first: Tensor, second: Tensor) -> Tensor:
    """Multiply float16 matrices into a float32 one, whose sums do not overflow."""
    if first.device.type == "cuda":
        try:
            return torch.mm(first, second, out_dtype=torch.float32)
        except (TypeError, RuntimeError):  # older PyTorch, or a card without such a product
            pass
    return torch.mm(first.float(), second.float())


def product_dtype(hidden: Tensor) -> torch.dtype:
    """Return the dtype of the product of hidden states and a head: under autocast, its own.

    Example:
        >>> product_dtype(torch.zeros(1, dtype=torch.float16))
        torch.float16
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype
