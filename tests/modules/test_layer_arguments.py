"""Recurrent modules get the padding of a batch, and not the mask that attention gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import CausalLM
from kdlight.models import HybridMamba
from kdlight.modules.layer_arguments import layer_arguments
from kdlight.modules.layerwise import LayerwiseDistillationModule
from tests.families.families import FAMILIES
from tests.models.tiny_models import tiny, tokens

HIDDEN = torch.randn(2, 5, 16)
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
ATTENTION: dict[str, Any] = {
    "hidden_states": HIDDEN,
    "attention_mask": torch.ones(2, 1, 5, 5, dtype=torch.bool),
    "position_embeddings": (torch.ones(1, 5, 8), torch.ones(1, 5, 8)),
}


def hybrid() -> Any:
    return HybridMamba([1], chunk_size=4).build(tiny("llama")).model.model


def test_a_mixer_gets_hidden_states_and_padding() -> None:
    mixer = hybrid().layers[0].mamba
    for args, kwargs in (((), ATTENTION), ((HIDDEN,), {**ATTENTION, "hidden_states": None})):
        found, named = layer_arguments(mixer, args, kwargs, {"attention_mask": MASK})
        assert found[0] is HIDDEN
        assert named == {"attention_mask": MASK}
        assert mixer(*found, **named).shape == HIDDEN.shape
    for batch in ({}, torch.zeros(2), {"attention_mask": torch.ones(2, 1, 5, 5)}):
        assert layer_arguments(mixer, (), ATTENTION, batch)[1] == {"attention_mask": None}


def test_a_layer_with_a_mixer_gets_all_else_too() -> None:
    layer = hybrid().layers[0]
    args, kwargs = layer_arguments(layer, (HIDDEN,), ATTENTION, {"attention_mask": MASK})
    assert args == (HIDDEN,)
    assert kwargs == {**ATTENTION, "attention_mask": MASK}


@pytest.mark.parametrize("make", [lambda: hybrid().layers[1], lambda: hybrid().layers[1].self_attn])
def test_attention_gets_what_it_got(make: Any) -> None:
    args, kwargs = layer_arguments(make(), (1,), ATTENTION, {"attention_mask": MASK})
    assert args == (1,)
    assert kwargs is ATTENTION


def test_packed_documents_are_refused() -> None:
    batch = {"position_ids": torch.tensor([[0, 1, 2, 0, 1]])}
    with pytest.raises(ValueError, match="BambaMixer has a recurrent state"):
        layer_arguments(hybrid().layers[0].mamba, (), ATTENTION, batch)
    assert layer_arguments(nn.Linear(2, 2), (), ATTENTION, batch) == ((), ATTENTION)


def test_a_mixer_of_mamba_is_one_too() -> None:
    model: Any = FAMILIES["mamba"].make(0)
    mixer = model.backbone.layers[0].mixer
    found, named = layer_arguments(mixer, (HIDDEN,), ATTENTION, {"attention_mask": MASK})
    assert (found, named) == ((HIDDEN,), {"attention_mask": MASK})


@pytest.mark.parametrize("pair", ["mamba", "layer"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_loss_is_that_of_the_mixer_called_by_hand(pair: str, attention: str) -> None:
    teacher: Any = CausalLM.wrap(tiny("llama"))
    teacher.model.set_attn_implementation(attention)
    teacher.compare_next = True  # rows that are evaluated for a comparison are none of the batch
    student: Any = HybridMamba([1], chunk_size=4).build(teacher)
    paths = (
        {"layers.0.mamba": "layers.0.self_attn"} if pair == "mamba" else {"layers.0": "layers.0"}
    )
    module = LayerwiseDistillationModule(student, teacher, paths)
    ids = tokens(2, 5)
    batch = {"input_ids": ids, "attention_mask": MASK, "labels": ids.masked_fill(MASK == 0, -100)}
    seen: dict[str, Tensor] = {}

    def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen["x"] = args[0] if args else kwargs["hidden_states"]
        seen["y"] = output if isinstance(output, Tensor) else output[0]

    layer = teacher.model.model.layers[0]
    hook = (layer.self_attn if pair == "mamba" else layer).register_forward_hook(
        keep, with_kwargs=True
    )
    teacher.eval().model(ids, attention_mask=MASK, position_ids=(MASK.cumsum(1) - 1).clamp(min=0))
    hook.remove()
    ours = student.model.model.layers[0]
    mixed = ours.mamba if pair == "mamba" else ours
    expected = mixed(seen["x"], attention_mask=MASK)
    expected = expected if isinstance(expected, Tensor) else expected[0]
    valid = torch.zeros(2, 5, dtype=torch.bool)
    valid[:, :-1] = MASK[:, :-1] * MASK[:, 1:] != 0  # padding predicts nothing
    loss = (expected - seen["y"])[valid].square().mean(-1).mean()
    found = module.learner_losses(batch)["student"][0].mean()
    torch.testing.assert_close(found, loss, rtol=1e-4, atol=1e-7)
