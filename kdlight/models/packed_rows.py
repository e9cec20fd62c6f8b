"""Rows of several documents, which a model with a recurrent state cannot keep apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def check_not_packed(model: Any, batch: Any) -> None:
    """Raise a ValueError where a recurrent state would carry one document into the next.

    Positions that start again within a row, without an ``attention_mask``, tell attention where
    another document begins. The state of a recurrent layer (Mamba, Bamba, RWKV) is not reset there.
    Rows with ``seq_idx`` are left to transformers, which resets the state if the package mamba_ssm
    is installed, and refuses them if not.

    Args:
        model: a model of transformers; others than recurrent ones may be packed.
        batch: a batch.

    Raises:
        ValueError: If the model is recurrent and positions start again.

    Example:
        >>> import torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1))
        >>> check_not_packed(model, {"position_ids": torch.tensor([[0, 1, 0, 1]])})
    """
    if getattr(model, "_is_stateful", False):
        check_state(type(model).__name__, batch)


def check_state(name: str, batch: Any) -> None:
    """Raise a ValueError where the state of a recurrent module would join packed documents.

    Args:
        name: name of the module, for the message.
        batch: a batch.

    Example:
        >>> check_state("Mamba", {"input_ids": [[1, 2]]})
    """
    if _starts_again(batch):
        raise ValueError(
            f"position_ids start again within a row, but {name} has a recurrent state, which would"
            " carry one document into the next; give one document a row, padded and with an"
            " attention_mask, or leave position_ids out to let documents follow each other"
        )


def _starts_again(batch: Any) -> bool:
    if not isinstance(batch, Mapping):
        return False
    if batch.get("attention_mask") is not None or batch.get("seq_idx") is not None:
        return False
    positions = batch.get("position_ids")
    if not isinstance(positions, Tensor) or positions.dim() != 2:
        return False
    return bool((positions.diff(dim=-1) != 1).any())
