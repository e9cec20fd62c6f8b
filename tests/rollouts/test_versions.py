"""Labels of weights: each run has its own, and knows those of others."""

from __future__ import annotations

import pytest

from kdlight.rollouts.versions import is_of_a_run, loading, new_run


def test_two_runs_have_two_names() -> None:
    assert new_run() != new_run()
    assert is_of_a_run(loading(f"{new_run()}-3"))


@pytest.mark.parametrize("label", ["default", "", "v1", "0a1b2c3d", "loading-", "0a1b2c3d-1-2"])
def test_other_labels_are_not_those_of_a_run(label: str) -> None:
    assert not is_of_a_run(label)
