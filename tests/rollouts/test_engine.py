"""What an engine does by default, besides generating."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.rollouts import RolloutEngine, Writer


class Silent(RolloutEngine):
    def generate(self, writer: Writer, prefixes: Any, room: Any, **options: Any) -> Any:
        return list(prefixes)


def test_an_engine_needs_no_more_than_to_generate() -> None:
    engine, writer = Silent(), Writer(None)
    engine.prepare(writer)
    engine.synchronise(writer, 3)
    engine.close()
    assert engine.generate(writer, [torch.tensor([1])], [4])[0].tolist() == [1]
    assert (engine.metrics(), engine.identity(), engine.names()) == ({}, {}, [])
    assert engine.context is None
    assert not engine.runs_network


def test_what_does_not_generate_is_no_engine() -> None:
    kind: Any = RolloutEngine
    with pytest.raises(TypeError, match="abstract"):
        kind()
