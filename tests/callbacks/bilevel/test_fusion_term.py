"""The ratio is found in an objective, together with its weight."""

from __future__ import annotations

import pytest
from torch import nn

from kdlight.callbacks.bilevel.fusion_term import fusion_term
from kdlight.objectives import CrossEntropy, ForwardKL, Objective, TGeoKD, Weighted


def test_the_weight_is_the_product_on_the_way_and_follows_changes():
    inner = Weighted({"ce": CrossEntropy(), "fused": TGeoKD()}, weights={"fused": 0.5})
    outer = Weighted({"kd": ForwardKL(), "both": inner}, weights={"both": 0.4})
    term = fusion_term(outer)
    assert isinstance(term.fusion, TGeoKD)
    assert term.weight() == 0.5 * 0.4
    outer.weights["both"] = 2.0
    assert term.weight() == 1.0
    assert fusion_term(term.fusion).weight() == 1.0


class Wrapped(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.inner = TGeoKD()


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (ForwardKL(), "none found in the objective, a ForwardKL"),
        (Weighted({"a": TGeoKD(), "b": TGeoKD()}), "2 found in the objective, a Weighted"),
        (Wrapped(), "inside of a Wrapped"),
    ],
    ids=["none", "several", "hidden"],
)
def test_other_objectives_are_refused(objective: nn.Module, words: str):
    with pytest.raises(ValueError, match=words):
        fusion_term(objective)
