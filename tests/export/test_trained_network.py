"""A network is found by its name, and described."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.callbacks import ExportStudent
from kdlight.export import describe_module, describe_network, find_network
from tests.support import online_fit, toy


def test_the_callback_refuses_what_is_not_trained(tmp_path: Path) -> None:
    frozen, online = toy.module(network="llama"), online_fit.module(networks=3)
    for module, network, message in (
        (frozen, "teacher", r"one of \['student'\], got 'teacher' \(the teacher is not trained\)"),
        (online, "third", "which ToyLM does not have"),
    ):
        run = toy.trainer(tmp_path, callbacks=[ExportStudent(network=network)])
        with pytest.raises(ValueError, match=message):
            run.fit(module, toy.RaggedModule(8))


def test_every_network_that_is_trained_is_found() -> None:
    online = online_fit.module(networks=3)
    found = [find_network(online, name) for name in ("student", *online.peers)]
    assert found == [network for network, _ in online.learners().values()]


def test_another_network_is_described_without_what_the_student_has() -> None:
    run = describe_module(toy.module())
    assert run["objective"]
    other = describe_network({**run, "metrics": {"val/loss": 1.0}}, "teacher")
    assert other["student"] == run["teacher"]
    assert not other.keys() & {"teacher", "objective", "metrics"}
