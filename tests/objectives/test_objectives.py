"""The list of objectives by name."""

from __future__ import annotations

import pytest

from kdlight import losses, objectives
from kdlight.objectives import OBJECTIVES, build_objective


def test_every_objective_is_exported_under_its_own_name() -> None:
    for kind in OBJECTIVES.values():
        assert getattr(objectives, kind.__name__) is kind
        assert kind.__name__ in objectives.__all__
    assert sorted(OBJECTIVES) == list(OBJECTIVES)


def test_an_objective_has_the_name_of_its_loss_function() -> None:
    # balanced_kl, any divergence, dac_kl, feature_distance, two functions, sinkhorn, a mixture
    others = {"bdkd", "ctkd", "dackl", "hidden_states", "relational", "sinkd", "tgeo_kd"}
    assert set(OBJECTIVES) - others <= set(losses.__all__)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'forward'; known: .*forward_kl"):
        build_objective("forward")
