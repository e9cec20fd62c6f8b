"""A teacher that reads its own fields of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

PREFIX = "teacher_"


class TeacherTokens(nn.Module):
    """A network that is given ``teacher_input_ids`` as its ``input_ids``, and so on.

    Put it around the teacher where it has a tokenizer of its own, see `TwoTokenizers`.

    Args:
        net: maps a batch to logits, such as `kdlight.CausalLM`.

    Raises:
        ValueError: a batch without fields of the teacher.

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
        """Entries of the teacher's vocabulary, if it tells."""
        return getattr(self.net, "vocab_size", None)

    @property
    def context_length(self) -> int | None:
        """Tokens that the teacher can read, if it tells."""
        return getattr(self.net, "context_length", None)

    def forward(self, batch: Any) -> Any:
        """Logits of the teacher's tokens."""
        fields = batch.items() if isinstance(batch, Mapping) else ()
        own = {key.removeprefix(PREFIX): value for key, value in fields if key.startswith(PREFIX)}
        if "input_ids" not in own:
            found = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"the teacher reads {PREFIX}input_ids of a batch, and this one has none: {found};"
                " make batches with kdlight.data.TwoTokenizers"
            )
        return self.net(own)
