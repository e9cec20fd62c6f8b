"""A sampler by weights, on one rank or several."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from torch.utils.data import DataLoader

from kdlight.data import DomainSampler

SIZES = [40, 24]


def sampler(**options: Any) -> DomainSampler:
    return DomainSampler(range(64), SIZES, seed=7, **options)


def test_ranks_together_draw_what_one_process_draws() -> None:
    alone = sampler()
    ranks = [sampler(num_replicas=2, rank=rank) for rank in range(2)]
    for epoch in range(3):
        for each in (alone, *ranks):
            each.set_epoch(epoch)
            if epoch == 1:
                each.set_weights([0.9, 0.1])
        whole = list(alone)
        parts = [list(each) for each in ranks]
        assert list(chain(*zip(*parts, strict=True))) == whole
        assert len(whole) == 64
        assert [each.drawn for each in ranks] == [alone.drawn] * 2


def test_ranks_have_no_block_in_common_while_no_domain_is_exhausted() -> None:
    halves = [iter(sampler(num_replicas=2, rank=rank)) for rank in range(2)]
    first, second = ([next(each) for _ in range(10)] for each in halves)
    assert not set(first) & set(second)
    assert len(set(first + second)) == 20


@pytest.mark.parametrize("ranks", [1, 3])
def test_all_ranks_have_equally_many(ranks: int) -> None:
    lengths = [len(list(sampler(num_replicas=ranks, rank=rank))) for rank in range(ranks)]
    assert lengths == [-(-64 // ranks)] * ranks
    assert len(sampler(num_replicas=ranks)) == lengths[0]


def test_epochs_go_on_with_the_draws() -> None:
    one, draws = sampler(), []
    for epoch in range(2):
        one.set_epoch(epoch)
        draws += list(one)
    assert draws == one.draws.samples(0, 128).tolist()


def test_weights_act_on_the_next_draw_of_an_epoch_in_progress() -> None:
    one = sampler()
    drawn = iter(one)
    first = [next(drawn) for _ in range(20)]
    one.set_weights([0.0, 1.0])
    assert one.draws.plan[-1] == (20, [0.0, 1.0])
    assert {index >= 40 for index in first} == {True, False}
    assert all(index >= 40 for index in drawn)


def test_the_plan_is_the_state() -> None:
    one = sampler()
    drawn = iter(one)
    for weights in ([0.3, 0.7], [0.8, 0.2]):
        _ = [next(drawn) for _ in range(9)]
        one.set_weights(weights)
    other = sampler(num_replicas=2, rank=1)  # the state holds for any number of ranks
    other.load_state_dict(one.state_dict())
    assert list(other) == one.draws.samples(0, 64)[1::2].tolist()
    assert other.weights == [0.8, 0.2]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_draw_ahead(workers: int) -> None:
    one = sampler()
    loader = DataLoader(range(64), batch_size=4, sampler=one, num_workers=workers)  # type: ignore[arg-type]
    batches = iter(loader)
    _ = [next(batches) for _ in range(3)]
    ahead = workers * (loader.prefetch_factor or 0)
    assert one.drawn == 4 * (3 + ahead)


def test_sizes_that_are_not_those_of_the_dataset_are_refused() -> None:
    with pytest.raises(ValueError, match="must add up to the 63 samples"):
        DomainSampler(range(63), SIZES, seed=0)
