"""The study of pruned students counts right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.studies.pruning import STUDENTS, Remembered, table
from tests.support.pruned_fit import teacher


def test_the_better_learning_rate_of_each_student_counts() -> None:
    run = {"before": 9.0, "after": 2.0, "step": 1.0}
    facts = {"parameters": 64_000_000, "without embeddings": 35_400_000, "forward": 0.5}
    results: dict[str, Any] = {
        "a": {**facts, "runs": {"0.001": run, "0.0003": {**run, "after": 1.5}}},
        "b": {**facts, "runs": {"0.001": run}},
    }
    *_, first, second = table(results).splitlines()
    assert first == "| a | 64.0 M | 35.4 M | 9.00 | 1.50 | 0.0003 (0.001: 2.00) | 0.50 |"
    assert second == "| b | 64.0 M | 35.4 M | 9.00 | 2.00 | 0.001 | 0.50 |"


def test_students_have_about_as_many_parameters() -> None:
    """Counted from the sizes of SmolLM2-135M, whose embeddings are tied."""
    counts = []
    for arguments in STUDENTS.values():
        layers, width = arguments.get("layers", 30), arguments.get("width", {})
        depth = layers["keep"] if isinstance(layers, dict) else layers
        depth = len(depth) if isinstance(depth, list) else depth
        hidden = width.get("hidden", 576)
        queries, neurons = 64 * width.get("heads", 9), width.get("feed_forward", 1536)
        attention = 2 * hidden * queries + 2 * hidden * queries // 3
        layer = attention + 3 * hidden * neurons + 2 * hidden
        counts.append(49152 * hidden + depth * layer + hidden)
    assert max(counts) < 1.01 * min(counts)
    assert 63e6 < min(counts) < 65e6


def test_hidden_states_are_computed_once(tmp_path: Path) -> None:
    network = teacher("float32")
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    batches = [{"input_ids": torch.tensor([[number, 3, 4]])} for number in (1, 2, 1)]
    with torch.no_grad():
        remembered = Remembered(network, tmp_path / "known.pt")
        found = [remembered(each).logits() for each in batches]
        assert len(calls) == 2
        remembered.save()
        again = Remembered(network, tmp_path / "known.pt")
        assert torch.equal(again(batches[0]).logits(), found[0])
        assert len(calls) == 2
        assert torch.equal(found[0], found[2])
        assert torch.equal(found[1], network(batches[1]).logits())
