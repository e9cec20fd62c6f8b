"""Any `torch.nn.Module` as a student or teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdlight.sources import Dense


class SingleInput(nn.Module):
    """A network that maps one entry of a batch to logits, (B, ...) -> (B, V).

    Choose it for classifiers and for networks of your own. For a Hugging Face language model use
    `CausalLM`.

    Args:
        net: the network.
        key: the entry of the batch that is the input: an index of a tuple ``(x, y)`` or a name in a
            mapping. A batch that is a tensor is the input itself.

    Raises:
        ValueError: If a batch has no such entry.

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
        """Compute the logits of a batch."""
        return Dense(self.net(self._input(batch)))

    def _input(self, batch: Any) -> Any:
        if isinstance(batch, Tensor):
            return batch
        try:
            return batch[self.key]
        except (KeyError, IndexError, TypeError) as error:
            got = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"SingleInput reads entry key={self.key!r} of a batch, but the batch has none:"
                f" {got}; set key to one of its entries"
            ) from error
