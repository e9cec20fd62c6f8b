"""The batches to measure on are the same everywhere, and the run does not notice."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from kdlight.models.recipes.calibration import calibration_batches, check_batches, check_data
from tests.support.pruned_fit import Shuffled


def batches(data: Any, count: int | None = 2) -> list[Any]:
    return calibration_batches(data, count, wanted_by="width={'heads': 2}")


def equal(one: list[Any], other: list[Any]) -> bool:
    assert len(one) == len(other)
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


def test_the_order_depends_on_no_seed_of_the_run() -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(batches(Shuffled()))
    assert equal(*found)
    torch.manual_seed(1)
    data = Shuffled()
    data.setup("fit")
    assert not equal(found[0], list(data.train_dataloader())[:2])  # it is a random order


def test_the_random_state_of_the_run_is_kept() -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    batches(Shuffled())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # type: ignore[index, union-attr]


def test_the_data_module_is_not_touched() -> None:
    copies, trainer = [], object()

    class Watched(Shuffled):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            copies.append(self)

    watched = Watched()
    watched.trainer = trainer  # type: ignore[assignment]
    assert len(batches(watched, None)) == 4
    (copied,) = copies
    assert copied is not watched
    assert copied.trainer is None  # which would give each rank a part of the data
    assert copied.calls == ["prepare_data", "fit"]
    assert watched.calls == []
    assert not hasattr(watched, "rows")
    assert watched.trainer is trainer


def test_an_iterable_of_batches_is_read_as_far_as_it_is_needed() -> None:
    rows = [{"input_ids": torch.tensor([[number]])} for number in range(9)]
    assert [each["input_ids"].item() for each in batches(rows, 3)] == [0, 1, 2]
    assert len(batches(rows, None)) == 4
    assert len(batches(rows, 20)) == 9
    generator = iter(rows)
    batches(generator, 3)
    assert next(generator)["input_ids"].item() == 3


def test_missing_data_are_named() -> None:
    with pytest.raises(ValueError, match=r"width=\{'heads': 2\} is measured .*data: \$\{data\}"):
        batches(None)
    with pytest.raises(ValueError, match="data must give at least one batch"):
        batches([])


@pytest.mark.parametrize("data", [7, "text.jsonl", {"input_ids": 1}], ids=str)
def test_data_of_another_kind(data: Any) -> None:
    with pytest.raises(TypeError, match=f"an iterable of batches, got a {type(data).__name__}"):
        check_data(data, wanted_by="layers")


def test_batches_of_another_kind() -> None:
    with pytest.raises(TypeError, match="batches that are mappings .* got a tuple"):
        batches([(torch.zeros(1, 2), torch.zeros(1, 2))])


@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_number_of_batches_that_is_none(value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="batches must be"):
        check_batches(value)


def test_data_that_cannot_be_set_up_tell_why() -> None:
    from kdlight.data import TextDataModule

    with pytest.raises(ValueError, match=r"nowhere\.txt"):
        batches(TextDataModule(lambda text: text, "nowhere.txt"))
