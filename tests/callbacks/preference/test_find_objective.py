"""The preference objective of a module, and the prefix of what it logs."""

from __future__ import annotations

import pytest

from kdlight.callbacks.preference.find_objective import find_preference_objective
from kdlight.objectives import DPO, REDI, CrossEntropy, ForwardKL, Weighted
from tests.support import toy


def test_the_prefix_is_the_path_without_terms() -> None:
    redi = REDI()
    assert find_preference_objective(toy.module(redi)) == ("", redi)
    inner = Weighted({"redi": redi, "ce": CrossEntropy()})
    nested = toy.module(Weighted({"inner": inner, "kd": ForwardKL()}))
    assert find_preference_objective(nested) == ("inner/redi/", redi)


def test_there_must_be_exactly_one() -> None:
    with pytest.raises(ValueError, match="needs one objective .* but ForwardKL holds 0"):
        find_preference_objective(toy.module(ForwardKL()))
    with pytest.raises(ValueError, match="but Weighted holds 2"):
        find_preference_objective(toy.module(Weighted({"redi": REDI(), "dpo": DPO()})))
