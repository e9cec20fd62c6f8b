"""Batches without an end, which depend on how many came before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from kdlight.callbacks.bilevel.repeated_loader import RepeatedLoader
from kdlight.data.loaders import train_loader


class Noisy(Dataset):
    """Rows with a random number, as augmentations have."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index), torch.rand(()).item()])


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        yield from range(3)


def loaders() -> dict[str, DataLoader]:
    return {
        "shuffled": DataLoader(Noisy(), 2, shuffle=True),
        "epochs": train_loader(Noisy(), batch_size=2, seed=1),
        "stream": DataLoader(Stream(), 2),
    }


@pytest.mark.parametrize("name", ["shuffled", "epochs", "stream"])
@pytest.mark.parametrize("drawn", [1, 3, 7])
def test_a_loader_that_goes_on_serves_the_same_batches(name: str, drawn: int):
    whole, torch_state = RepeatedLoader(loaders()[name]), torch.get_rng_state()
    expected = [next(whole) for _ in range(12)]
    torch.rand(100)
    rest = RepeatedLoader(loaders()[name], drawn)
    assert rest.drawn == drawn
    for batch in expected[drawn:]:
        assert torch.equal(next(rest), batch)
    torch.set_rng_state(torch_state)


@pytest.mark.parametrize("name", ["shuffled", "epochs"])
def test_passes_have_orders_of_their_own(name: str):
    batches = RepeatedLoader(loaders()[name])
    passes = [torch.cat([next(batches) for _ in range(3)])[:, 0] for _ in range(4)]
    assert all(sorted(each.tolist()) == [0, 1, 2, 3, 4] for each in passes)
    assert len({tuple(each.tolist()) for each in passes}) > 1


def test_random_numbers_of_the_run_stay():
    before = torch.get_rng_state()
    batches = RepeatedLoader(loaders()["shuffled"])
    for _ in range(4):
        next(batches)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_without_batches_is_refused():
    with pytest.raises(ValueError, match="the data loader of BilevelUpdate has no batch"):
        next(RepeatedLoader([]))
