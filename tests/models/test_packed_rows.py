"""Documents in one row are kept apart, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight import CausalLM
from kdlight.models import HybridMamba
from tests.families.families import FAMILIES
from tests.models.tiny_models import tiny, tokens

IDS = tokens(1, 8)
PACKED = {"input_ids": IDS, "position_ids": torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]])}


@torch.no_grad()
def second(network: CausalLM, batch: dict[str, Any]) -> torch.Tensor:
    return network.eval()(batch).logits()[:, -3:]


def test_attention_keeps_documents_apart() -> None:
    network = CausalLM.wrap(tiny("llama"))
    expected = second(network, {"input_ids": IDS[:, 5:]})
    torch.testing.assert_close(second(network, PACKED), expected)
    assert not torch.allclose(second(network, {"input_ids": IDS}), expected, atol=1e-4)


@pytest.mark.parametrize(
    "make", [lambda: HybridMamba([1]).build(tiny("llama")).model, lambda: FAMILIES["mamba"].make(0)]
)
def test_a_recurrent_state_would_not(make: Any) -> None:
    network = CausalLM.wrap(make())
    with pytest.raises(ValueError, match="position_ids start again .* has a recurrent state"):
        network(PACKED)
    # what is refused would be another sequence: the state is not reset
    whole = second(network, {"input_ids": IDS})
    assert not torch.allclose(whole, second(network, {"input_ids": IDS[:, 5:]}), atol=1e-6)


@pytest.mark.parametrize(
    "batch",
    [
        {"input_ids": IDS},
        {"input_ids": IDS, "position_ids": torch.arange(8)[None]},
        {"input_ids": IDS, "position_ids": torch.arange(3, 11)[None]},
        {  # padding at the left
            "input_ids": IDS,
            "attention_mask": torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]]),
            "position_ids": torch.tensor([[0, 0, 0, 1, 2, 3, 4, 5]]),
        },
    ],
)
def test_rows_of_one_document_are_not_refused(batch: dict[str, torch.Tensor]) -> None:
    assert second(HybridMamba([1]).build(tiny("llama")), batch).isfinite().all()


def test_sequences_numbered_for_a_kernel_are_refused_without_it() -> None:
    batch = {**PACKED, "seq_idx": torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]], dtype=torch.int32)}
    with pytest.raises(ValueError, match="can't keep packed sequences apart without"):
        HybridMamba([1]).build(tiny("llama"))(batch)
