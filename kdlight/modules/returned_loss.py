"""The loss that a training step returns is the one that was scaled, and nothing else."""

from __future__ import annotations

from typing import Any

from torch import Tensor

LINEAR = (
    "Alias",
    "Clone",
    "Div",
    "Expand",
    "Mean",
    "Mul",
    "Neg",
    "Reshape",
    "ReshapeAlias",
    "Squeeze",
    "Sum",
    "ToCopy",
    "Unsqueeze",
    "View",
)
"""Operations of PyTorch that only multiply one number by a constant."""


class ReturnedLoss:
    """Remembers the scaled loss of a micro-batch and recognizes it before the backward pass.

    The loss of a micro-batch is a sum over its units, and gradients are divided by the number of
    units after the last micro-batch of an optimizer step. A term that a subclass adds to the loss
    would be divided, too: its weight would depend on the sizes of the batches.

    Example:
        >>> import torch
        >>> loss = ReturnedLoss()
        >>> scaled = loss.remember(torch.ones((), requires_grad=True) * 3)
        >>> loss.check(scaled / 4, "Module")
        >>> loss.check(scaled + torch.ones((), requires_grad=True), "Module")
        Traceback (most recent call last):
        ValueError: the training_step of Module returned another loss than that of its ...
    """

    def __init__(self) -> None:
        self._node: Any = None

    def remember(self, loss: Tensor) -> Tensor:
        """Remember ``loss``, and return it."""
        self._node = loss.grad_fn
        return loss

    def clear(self) -> None:
        """Forget the loss."""
        self._node = None

    def check(self, loss: Tensor, owner: str) -> None:
        """Raise a ValueError if ``loss`` is not the remembered one, up to constant factors."""
        if self._node is None:  # a training step with a loss of its own, or without gradients
            return
        node: Any = loss.grad_fn
        while node is not None and node is not self._node:
            inputs = [each for each, _ in node.next_functions if each is not None]
            node = inputs[0] if len(inputs) == 1 and _is_linear(node) else None
        if node is None:
            raise ValueError(
                f"the training_step of {owner} returned another loss than that of its objective, of"
                " which it is a part; a term that is added there would be divided by the number of"
                " units of the optimizer step. Return it from extra_loss(batch) instead, where it"
                " has the weight that you give it"
            )


def _is_linear(node: Any) -> bool:
    """Return whether a node of the graph multiplies by a constant; nodes of strategies do."""
    name = node.name()
    return not name[-1:].isdigit() or name.removesuffix("Backward0") in LINEAR
