"""Whole weights of a student, for what is saved during a run.

Those of a student that FSDP2 divides are compared on two ranks in
tests/callbacks/test_on_policy_engine.py and tests/distributed.
"""

from __future__ import annotations

from pathlib import Path

from kdlight.callbacks.inference.gathered_weights import gathered_weights
from tests.support import toy


def test_a_network_that_is_whole_is_not_gathered(tmp_path: Path) -> None:
    module = toy.module(network="llama")
    assert gathered_weights(toy.trainer(tmp_path), module, module.student_network()) is None
