"""Numbers of responses are given for each prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces.samples_per_prompt import samples_per_prompt


def test_numbers_are_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    numbers = {"a": 2, "b": 0, "c": 1}
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps(numbers))
    for samples in (numbers, dict(reversed(numbers.items())), str(path), path):
        assert samples_per_prompt(samples, ["c", "a", "b"]) == [1, 2, 0]
    assert samples_per_prompt(3, ["c", "a"]) == [3, 3]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (0, "samples must be at least 1, got 0"),
        (True, "samples must be an integer"),
        (1.5, "samples must be an integer"),
        ({"a": 1}, "samples and prompts must have the same prompt ids, but 'b' is only in prompts"),
        ({"a": 1, "b": 1, "x": 1}, "'x' is only in samples"),
        ({"a": -1, "b": 1}, "samples of prompt 'a' must be at least 0, got -1"),
        ({"a": 1.0, "b": 1}, "samples of prompt 'a' must be an integer"),
        ({"a": 0, "b": 0}, "samples must ask for at least one response"),
    ],
    ids=range(8),
)
def test_bad_numbers_are_named(samples: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        samples_per_prompt(samples, ["a", "b"])
