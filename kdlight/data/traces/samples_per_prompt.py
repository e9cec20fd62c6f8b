"""How many responses to sample for each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kdlight.checks import check_integer
from kdlight.data.traces.mappings import as_mapping, check_same_keys


def samples_per_prompt(
    samples: int | Mapping[str, int] | str | Path, prompt_ids: Sequence[str]
) -> list[int]:
    """Return the number of responses to each prompt, in the order of the prompts.

    Args:
        samples: the number for all prompts; or numbers by prompt id, 0 for none, or the path of a
            JSON file with an object of these, such as `allocate_budget` returns them.
        prompt_ids: ids of the prompts.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If one is negative, all are 0, a prompt has none, or there is no such prompt.

    Example:
        >>> samples_per_prompt({"a": 0, "b": 3}, ["b", "a"])
        [3, 0]
    """
    if not isinstance(samples, (Mapping, str, Path)):
        check_integer("samples", samples, 1)
        return [samples] * len(prompt_ids)
    numbers = as_mapping("samples", samples)
    for name, value in numbers.items():
        check_integer(f"samples of prompt {name!r}", value, 0)
    check_same_keys("samples", numbers, "prompts", dict.fromkeys(prompt_ids))
    if not any(numbers.values()):
        raise ValueError("samples must ask for at least one response, got 0 for each prompt")
    return [int(numbers[name]) for name in prompt_ids]
