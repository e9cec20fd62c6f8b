"""A student or teacher that is any `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdlight.sources import Dense


class SingleInput(nn.Module):
    """A network from one entry of the batch to logits, (B, ...) -> (B, V).

    Choose it for classifiers and for networks of your own; a Hugging Face language model is a
    `CausalLM`.

    Args:
        net: the network.
        key: which entry of the batch it reads: a position in a tuple ``(x, y)`` or a name in a
            mapping. A batch that is a tensor is read whole.

    Example:
        >>> import torch
        >>> student = SingleInput(nn.Linear(4, 3))
        >>> student((torch.zeros(2, 4), torch.tensor([0, 1]))).shape
        torch.Size([2, 3])
    """

    def __init__(self, net: nn.Module, *, key: int | str = 0) -> None:
        super().__init__()
        self.net = net
        self.key = key

    def forward(self, batch: Any) -> Dense:
        """Logits of one batch."""
        return Dense(self.net(self._input(batch)))

    def _input(self, batch: Any) -> Any:
        if isinstance(batch, Tensor):
            return batch
        try:
            return batch[self.key]
        except (KeyError, IndexError, TypeError) as error:
            found = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"Plain reads entry key={self.key!r} of a batch, and this one has none: {found}"
            ) from error
