"""Depths without validation cost nothing; `tests/callbacks/test_elastic_depth.py` has the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.callbacks import ElasticDepth
from kdlight.callbacks.elastic.depth_validation import DepthValidation, depths_to_validate
from kdlight.callbacks.elastic.held_out import held_out_kl
from kdlight.models import SubNetworks, sub_network
from tests.support import toy
from tests.support.elastic_fit import module, trainer


def test_no_depths_are_validated(tmp_path: Path) -> None:
    run = trainer(tmp_path, ElasticDepth(2, validate_depths=[]))
    run.fit(module(), toy.loader(4), toy.loader(4, count=8))
    assert "val/forward_kl" in run.callback_metrics
    assert not [name for name in run.callback_metrics if name.startswith("val/depth")]


def test_a_depth_outside_of_training_may_be_validated_in_a_run_without_a_fit(
    tmp_path: Path,
) -> None:
    this, batches = module(), list(toy.loader(4, count=8))
    run = trainer(tmp_path, ElasticDepth(3, random=1, validate_depths=[1, 4]))
    (found,) = run.validate(this, toy.loader(4, count=8), verbose=False)
    student: Any = this.student
    for depth in (1, 4):
        with sub_network(student.model, depth):
            expected = held_out_kl(this, batches)
        assert found[f"val/depth_{depth}/forward_kl"] == pytest.approx(expected, rel=1e-6)


def test_sums_start_anew() -> None:
    student: Any = module().student
    validation = DepthValidation(SubNetworks(student.model), [2])
    validation.sums[2] += 1
    validation.reset()
    assert validation.sums[2].tolist() == [0.0, 0.0]


def test_depths_without_a_teacher() -> None:
    assert depths_to_validate(5, 2, None, teacher=None) == []
    assert depths_to_validate(5, 4, None, teacher="one") == [4]
    with pytest.raises(ValueError, match=r"set validate_depths=\[\]"):
        depths_to_validate(5, 2, [3], teacher=None)
