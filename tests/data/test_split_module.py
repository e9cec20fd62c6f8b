"""Data are loaded once, and loaders are made from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.data.split_module import SplitDataModule


class Numbers(SplitDataModule):
    """Counts how often it is loaded."""

    loads = 0

    def load_parts(self) -> tuple[Any, Any]:
        self.loads += 1
        return list(range(10)), list(range(10, 13))


def test_data_are_loaded_once_and_on_demand() -> None:
    data = Numbers(batch_size=4)
    assert data.loads == 0
    data.setup("fit")
    data.setup("validate")
    batches = [batch.tolist() for batch in data.train_dataloader()]
    assert data.loads == 1
    assert sorted(sum(batches, [])) == list(range(10))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [batch.tolist() for batch in data.val_dataloader()] == [[10, 11, 12]]


def test_the_order_of_training_changes_with_seed_and_epoch() -> None:
    def order(seed: int, epoch: int = 0) -> list[int]:
        loader: Any = Numbers(batch_size=10, seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return next(iter(loader)).tolist()

    assert order(0) == order(0) != order(1)
    assert order(0) != order(0, epoch=1)


def test_without_validation_data_there_is_no_loader() -> None:
    class TrainingOnly(Numbers):
        def load_parts(self) -> tuple[Any, Any]:
            return [torch.zeros(1)], []

    assert TrainingOnly(batch_size=1).val_dataloader() == []


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size"])
def test_a_batch_has_at_least_one_sample(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Numbers(**{"batch_size": 1, name: 0})


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 2.5},
        {"batch_size": True},
        {"eval_batch_size": "4"},
        {"num_workers": -1},
        {"num_workers": 0.5},
        {"seed": 2**64},
        {"seed": -(2**63) - 1},
        {"seed": 0.5},
        {"seed": None},
    ],
    ids=range(9),
)
def test_wrong_numbers_are_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
        Numbers(**{"batch_size": 1, **wrong})


@pytest.mark.parametrize("seed", [-(2**63), 2**64 - 1])
def test_every_seed_that_is_accepted_can_be_used(seed: int) -> None:
    assert len(list(Numbers(batch_size=4, seed=seed).train_dataloader())) == 3
