"""A teacher that reads its own entries of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

PREFIX = "teacher_"


class TeacherTokens(nn.Module):
    """A network that gets ``teacher_input_ids`` as ``input_ids``, and so on.

    Choose it for a teacher with its own tokenizer, see `TwoTokenizers`.

    Args:
        net: maps a batch to logits, such as `kdlight.CausalLM`.

    Raises:
        ValueError: If a batch has no entries for the teacher.

    Example:
        >>> import torch
        >>> from kdlight import SingleInput
        >>> teacher = TeacherTokens(SingleInput(nn.Embedding(9, 4), key="input_ids"))
        >>> teacher({"teacher_input_ids": torch.zeros(2, 3, dtype=torch.long)}).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @property
    def vocab_size(self) -> int | None:
        """Width V of the teacher's logits, if the network has an attribute ``vocab_size``."""
        return getattr(self.net, "vocab_size", None)

    @property
    def context_length(self) -> int | None:
        """Maximal length of a sequence, if the network has an attribute ``context_length``."""
        return getattr(self.net, "context_length", None)

    def forward(self, batch: Any) -> Any:
        """Compute the logits of the teacher's tokens."""
        entries = batch.items() if isinstance(batch, Mapping) else ()
        own = {name.removeprefix(PREFIX): x for name, x in entries if name.startswith(PREFIX)}
        if "input_ids" not in own:
            got = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"TeacherTokens reads {PREFIX}input_ids of a batch, but the batch has none: {got};"
                " make batches with kdlight.data.TwoTokenizers"
            )
        return self.net(own)
