"""Any `torch.nn.Module` as a student or teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdlight.models.call_network import binary_logits, to_logits
from kdlight.models.model_inputs import input_names
from kdlight.models.model_kind import (
    is_transformers_model,
    kind_of_model,
    model_kind,
    wrapped_model,
)
from kdlight.sources import LogitsSource


class SingleInput(nn.Module):
    """A network that maps one entry of a batch to logits, (B, ...) -> (B, ..., V).

    Choose it for classifiers and for networks of your own. A model of transformers needs no
    wrapper, or `TransformersModel`; for a language model `CausalLM` saves memory.

    Args:
        net: the network; it returns a tensor of logits or an object with ``logits``.
        key: the entry of the batch that is the input: an index of a tuple ``(x, y)`` or a name in a
            mapping. A batch that is a tensor is the input itself.
        class_dim: the axis of the logits that holds the classes: 1 for maps ``(B, C, H, W)`` and
            for sequences ``(B, C, T)``; None for the last of at most three axes.

    Raises:
        ValueError: If a batch has no such entry; if it has other inputs, such as an attention mask,
            of a model of transformers in ``net``; if the logits have more than three axes and
            ``class_dim`` is None.

    Example:
        >>> import torch
        >>> student = SingleInput(nn.Linear(4, 3))
        >>> student((torch.zeros(2, 4), torch.tensor([0, 1]))).shape
        torch.Size([2, 3])
        >>> SingleInput(nn.Conv2d(3, 5, 1), class_dim=1)(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8, 5])
    """

    def __init__(self, net: nn.Module, *, key: int | str = 0, class_dim: int | None = None) -> None:
        super().__init__()
        self.net = net
        self.key = key
        self.class_dim = class_dim

    def forward(self, batch: Any) -> LogitsSource:
        """Compute the logits of a batch."""
        output = self.net(self._input(batch))
        source = to_logits(output, class_dim=self.class_dim, name=type(self.net).__name__)
        is_multi_label = is_transformers_model(self.net) and model_kind(self.net).is_multi_label
        return binary_logits(source) if is_multi_label else source

    def _input(self, batch: Any) -> Any:
        if isinstance(batch, Tensor):
            return batch
        if isinstance(batch, Mapping):
            self._check_all_are_read(batch)
        try:
            return batch[self.key]
        except (KeyError, IndexError, TypeError) as error:
            got = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"SingleInput reads entry key={self.key!r} of a batch, but the batch has none:"
                f" {got}; set key to one of its entries"
            ) from error

    def _check_all_are_read(self, batch: Mapping[str, Any]) -> None:
        """Raise an error if the batch has inputs of a transformers model that it would not get."""
        model = wrapped_model(self.net)
        if model is None:
            return
        names = input_names(type(model))
        if kind_of_model(model).is_encoder_decoder:  # which makes inputs of its decoder from them
            names |= {"labels"}
        others = sorted(n for n in names if n != self.key and batch.get(n) is not None)
        if others:
            raise ValueError(
                f"SingleInput reads only key={self.key!r} of a batch, but the batch has {others}"
                f" too, which {type(model).__name__} takes as inputs and its logits depend on. Give"
                " the model itself, or kdlight.TransformersModel.wrap(model), which pass every"
                " input on"
            )
