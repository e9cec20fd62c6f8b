"""Layers that change nothing are the least important ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdlight.models import layer_importance, prune_layers, top_units
from tests.models.pruning.width_models import CENTERED, FAMILIES, SCALED, batch, decoder
from tests.models.tiny_models import tiny


def test_it_is_the_formula_of_the_paper() -> None:
    model, ids = decoder("llama").double(), batch()
    with torch.no_grad():
        states = model.model(**ids, output_hidden_states=True).hidden_states
    # the last entry of transformers is after the last norm
    found = layer_importance(model, [ids])
    for index in range(len(states) - 2):
        one, other = (each.flatten(0, 1) for each in states[index : index + 2])
        cosines = [a @ b / (a.norm() * b.norm()) for a, b in zip(one, other, strict=True)]
        expected = 1 - torch.stack(cosines).mean()
        torch.testing.assert_close(found[index], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [*FAMILIES, *SCALED, *CENTERED, "gpt2", "mamba", "mixtral"])
def test_any_list_of_layers_is_measured(name: str) -> None:
    found = layer_importance(decoder(name), [batch()])
    assert found.shape == (3,)
    assert (found > 0).all()
    assert (found < 2).all()


def test_a_layer_that_does_nothing_is_removed_without_loss() -> None:
    model, ids = tiny("llama"), batch()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        for index in (0, 2):  # their outputs are added to the hidden states
            model.model.layers[index].self_attn.o_proj.weight.zero_()
            model.model.layers[index].mlp.down_proj.weight.zero_()
        scores = layer_importance(model, [ids])
        assert top_units(scores, 2) == [1, 3]
        torch.testing.assert_close(scores[[0, 2]], torch.zeros(2).double(), rtol=0, atol=1e-12)
        student = prune_layers(model, top_units(scores, 2)).eval()
        assert torch.equal(student(**ids).logits, model(**ids).logits)


def test_a_model_without_one_list_of_layers_is_refused() -> None:
    model = decoder("llama")
    model.extra = nn.ModuleList([nn.Identity() for _ in range(3)])
    with pytest.raises(ValueError, match="must have one list of 3 modules"):
        layer_importance(model, [batch()])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_the_highest_scores_are_kept_in_order(scores: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    kept = top_units(torch.tensor(scores, dtype=torch.float64), count)
    assert kept == sorted(set(kept))
    assert len(kept) == count
    rest = [score for index, score in enumerate(scores) if index not in kept]
    assert min(scores[index] for index in kept) >= max(rest, default=0)
    for index, score in enumerate(scores):  # of equal scores the first are kept
        if index not in kept:
            assert all(other < index for other in kept if scores[other] == score)


@pytest.mark.parametrize("count", [0, 4])
def test_a_number_outside_its_range(count: int) -> None:
    with pytest.raises(ValueError, match=f"count must be 1 to 3 of the 3 units, got {count}"):
        top_units(torch.rand(3), count)
