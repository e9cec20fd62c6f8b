"""The whole teacher, asked once: its hidden states, and the head that makes logits of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdlight import CausalLM, Projected


@torch.no_grad()
def remember(teacher: CausalLM, blocks: list[Tensor], path: Path, *, batch: int) -> None:
    """Write what ``teacher`` makes of ``blocks``, (T,) each."""
    ids, hidden = torch.stack(blocks), []
    for some in ids.split(batch):
        source = teacher({"input_ids": some})
        if not isinstance(source, Projected) or source.transform is not None:
            raise ValueError("this teacher's logits are not its last hidden states times a matrix")
        hidden.append(source.hidden)
    head = teacher.model.get_output_embeddings().weight
    part = path.with_suffix(".part")
    save_file({"ids": ids, "hidden": torch.cat(hidden), "head": head.detach().clone()}, part)
    part.rename(path)


class Remembered(nn.Module):
    """Answers as the network did, to the last bit of its hidden states, without the network."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        known = load_file(path)
        self._rows = {row.tobytes(): i for i, row in enumerate(known["ids"].numpy())}
        self._hidden = known["hidden"]
        vocabulary, width = known["head"].shape
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = nn.Parameter(known["head"])

    def forward(self, batch: Mapping[str, Tensor]) -> Projected:
        """The logits of blocks that the network was asked for."""
        rows = [self._rows[row.tobytes()] for row in batch["input_ids"].numpy()]
        return Projected(self._hidden[rows], self.head)
