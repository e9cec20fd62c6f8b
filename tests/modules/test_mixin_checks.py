"""Names and bases that the mixin cannot share with a module."""

from __future__ import annotations

import pytest

from kdlight import DistillationMixin, FrozenTeacher
from kdlight.objectives import ForwardKL
from tests.support.own_module import Classifier, Distilled, net


def test_the_mixin_must_be_the_first_base() -> None:
    with pytest.raises(TypeError, match=r"write class Wrong\(DistillationMixin, Classifier\)"):
        type("Wrong", (Classifier, DistillationMixin), {})


def test_names_with_another_meaning_raise() -> None:
    stepping = type("Stepping", (Classifier,), {"loss_inputs": lambda self, batch: None})
    with pytest.raises(TypeError, match="Stepping has loss_inputs of its own"):
        type("Wrong", (DistillationMixin, stepping), {})
    module = Distilled()
    module.teacher = FrozenTeacher(net(3, seed=0))
    with pytest.raises(ValueError, match="Distilled has teacher of its own"):
        module.distill(ForwardKL())
