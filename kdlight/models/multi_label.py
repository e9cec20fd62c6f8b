"""A network whose logits are independent yes-or-no questions."""

from __future__ import annotations

from typing import Any

from torch import nn

from kdlight.models.call_network import binary_logits, call_network, plain_logits
from kdlight.models.model_kind import model_kind
from kdlight.sources import Dense, LogitsSource


class MultiLabel(nn.Module):
    r"""A network with a sigmoid for each logit, ``(B, C)``, as C questions with two answers each.

    The result has the shape ``(B, C, 2)``: each of the C logits z becomes the pair (0, z), whose
    softmax is the sigmoid of z. Every objective and metric then means what it says, on B times C
    positions. Labels are 0 or 1, ``(B, C)``, of any dtype. One logit, ``(B, 1)`` or ``(B,)``, is
    the case of C = 1; its labels may have the shape ``(B,)``.

    Wrap student and teacher alike. A model of transformers whose config has the ``problem_type``
    ``"multi_label_classification"`` is treated like this without the wrapper.

    Args:
        network: from a batch to logits, such as a `SingleInput`.

    Example:
        >>> import torch
        >>> from kdlight import SingleInput
        >>> student = MultiLabel(SingleInput(nn.Linear(4, 3)))
        >>> student((torch.zeros(2, 4), torch.ones(2, 3))).shape
        torch.Size([2, 3, 2])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Any) -> LogitsSource:
        """Compute the pairs of logits of a batch."""
        if model_kind(self.network).is_multi_label:
            return call_network(self.network, batch)  # which makes the pairs
        source = plain_logits(self.network, batch)
        if len(source.shape) == 1:  # (B,), one question
            return binary_logits(Dense(source.logits().unsqueeze(-1)))
        return binary_logits(source)
