"""Logits of a fast path are compared with those of the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import CausalLM
from kdlight.models.call_network import call_network
from kdlight.models.fast_path import fast_path_difference
from kdlight.sources import Dense, LogitsSource
from tests.families.families import FAMILIES

LLAMA = FAMILIES["llama"]


def changed(model: Any, change: Any) -> Any:
    def fast_path(batch: Any) -> LogitsSource:
        return Dense(change(call_network(model, batch).logits()))

    return fast_path


def test_the_difference_is_relative_to_the_size_of_the_logits() -> None:
    model, batch = LLAMA.make(0), LLAMA.batch(0)
    assert fast_path_difference(model, CausalLM.wrap(model), batch) < 1e-9
    largest = model(**batch).logits[0].abs().max().detach()
    difference = fast_path_difference(model, changed(model, lambda x: x + 0.5), batch)
    assert difference == pytest.approx(0.5 / float(largest), rel=1e-4)
    assert fast_path_difference(model, changed(model, lambda x: x * 1.01), batch) > 5e-3
    assert fast_path_difference(model, changed(model, lambda x: x[..., :-1]), batch) == torch.inf


def test_padding_is_not_compared() -> None:
    model, batch = LLAMA.make(0), LLAMA.batch(0)
    batch = {name: value[[1, 0, 2]] for name, value in batch.items()}  # the first row is padded

    def at_the_end(logits: Tensor) -> Tensor:
        logits[:, -1] += 9
        return logits

    assert fast_path_difference(model, changed(model, at_the_end), batch) < 1e-9
    nothing = {**batch, "attention_mask": torch.zeros_like(batch["attention_mask"])}
    assert fast_path_difference(model, changed(model, lambda x: x + 1), nothing) == 0


def test_long_rows_are_compared_at_some_positions() -> None:
    model = LLAMA.make(0)
    batch = {"input_ids": torch.randint(3, 61, (1, 60))}
    sizes = []
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    head.register_forward_hook(lambda module, args, output: sizes.append(output.shape[1]))
    assert fast_path_difference(model, CausalLM.wrap(model), batch) < 1e-9
    assert 20 in sizes
    assert 60 not in sizes


def test_rows_that_cannot_be_told_apart_are_compared_together() -> None:
    """Qwen 2 VL has the patches of all pictures in one tensor."""
    model, batch = LLAMA.make(0), LLAMA.batch(0)

    def on_the_last_row(logits: Tensor) -> Tensor:
        return torch.cat([logits[:-1], logits[-1:] + 1])

    fast_path = changed(model, on_the_last_row)
    patches = {**batch, "patches": torch.zeros(7, 2)}
    assert fast_path_difference(model, fast_path, patches) > 1e-3


def test_it_is_in_evaluation_mode_and_leaves_no_hooks() -> None:
    model = LLAMA.make(0).train()
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            vars(module)["attention_dropout"] = 0.9
    wrapped = CausalLM.wrap(model)
    assert fast_path_difference(model, wrapped, LLAMA.batch(0)) < 1e-9
    assert model.training
    assert not model.get_output_embeddings()._forward_pre_hooks  # type: ignore[operator]
