"""The importance of heads, neurons and hidden channels is the size of their activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models import WidthImportance, width_importance
from tests.models.pruning.width_models import CENTERED, FAMILIES, SCALED, batch, decoder


def recorded(model: Any, path: str, *, output: bool = False) -> torch.Tensor:
    """Return what a module gets or computes on the batch, one row per token."""
    seen = []
    handle = model.get_submodule(path).register_forward_hook(
        lambda module, args, made: seen.append(made if output else args[0])
    )
    with torch.no_grad():
        model(**batch())
    handle.remove()
    return seen[0].flatten(0, 1)


@pytest.mark.parametrize("name", [*FAMILIES, *SCALED, *CENTERED])
def test_it_is_the_root_mean_square_over_tokens(name: str) -> None:
    model = decoder(name).double()
    found = width_importance(model, [batch()])
    head_dim, group = model.model.layers[0].self_attn.head_dim, 2
    for layer in range(3):
        rows = recorded(model, f"model.layers.{layer}.self_attn.o_proj")
        for index in range(2):
            # query heads 2g and 2g + 1 share the key/value head g
            own = rows[:, group * index * head_dim : group * (index + 1) * head_dim]
            expected = torch.stack([row.norm() ** 2 for row in own]).mean().sqrt()
            torch.testing.assert_close(found.heads[layer, index], expected)
        rows = recorded(model, f"model.layers.{layer}.mlp.down_proj")
        torch.testing.assert_close(found.feed_forward[layer], rows.square().mean(0).sqrt())
    norms = [path for path, module in model.named_modules() if "norm" in path.split(".")[-1]]
    norms = [path for path in norms if "self_attn" not in path]
    sizes = [recorded(model, path, output=True).square().mean(0).sqrt() for path in norms]
    torch.testing.assert_close(found.hidden, torch.stack(sizes).mean(0))


def test_how_tokens_are_batched_and_padded_makes_no_difference() -> None:
    model = decoder("qwen3").double()
    ids = batch(4, 6)["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    whole = width_importance(model, [{"input_ids": ids, "attention_mask": mask}])
    rows = [{"input_ids": row[keep.bool()][None]} for row, keep in zip(ids, mask, strict=True)]
    for one, other in zip(whole, width_importance(model, rows), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_half_precision_is_averaged_in_float64() -> None:
    """A sum in bfloat16 would stop growing."""
    model = decoder("llama")
    exact = width_importance(model, [batch(64, 16)])
    half = width_importance(model.bfloat16(), [batch(64, 16)])
    assert half.heads.dtype == torch.float64
    for one, other in zip(exact, half, strict=True):
        torch.testing.assert_close(one, other, rtol=3e-2, atol=1e-3)


def test_the_layers_of_a_pruned_model_keep_their_importance() -> None:
    scores = WidthImportance(torch.rand(3, 2), torch.rand(3, 24), torch.rand(16))
    kept = scores.of_layers([0, 2])
    assert torch.equal(kept.heads, scores.heads[[0, 2]])
    assert torch.equal(kept.feed_forward, scores.feed_forward[[0, 2]])
    assert torch.equal(kept.hidden, scores.hidden)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="GPT2LMHeadModel cannot be pruned in width"):
        width_importance(decoder("gpt2"), [batch()])
