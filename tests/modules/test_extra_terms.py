"""Terms are means over a batch, weighed by the units that the objective counts in it."""

from __future__ import annotations

import pytest
import torch

from kdlight.modules.extra_terms import named_terms, with_terms
from kdlight.objectives import Loss


def test_a_term_is_weighed_by_the_units_of_its_batch() -> None:
    term = torch.tensor(0.5, requires_grad=True)
    loss = Loss(torch.tensor(6.0), torch.tensor(4), {"kd": torch.tensor(6.0)})
    found, total = with_terms(loss, {"l1": (3.0, term)})
    assert total.item() == 6.0 + 3.0 * 0.5 * 4
    assert {name: part.item() for name, part in found.parts.items()} == {"kd": 6.0, "l1": 2.0}
    assert not found.parts["l1"].requires_grad
    total.backward()
    assert term.grad == 12.0


def test_terms_get_names_and_weights() -> None:
    one = torch.tensor(1.0)
    assert named_terms(None) == {}
    assert named_terms({"a": one}) == {"a": (1.0, one)}
    with pytest.raises(ValueError, match="the name of a term is taken, got 'loss'"):
        named_terms({"loss": one})
    with pytest.raises(ValueError, match=r"must be one number.*a tensor \(2,\)"):
        named_terms(torch.ones(2))
    with pytest.raises(ValueError, match="'kd', as a part of the objective"):
        with_terms(Loss(one, one, {"kd": one}), {"kd": (1.0, one)})
