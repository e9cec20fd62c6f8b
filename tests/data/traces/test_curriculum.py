"""The length of responses changes from epoch to epoch, on every rank."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces.curriculum import CurriculumSampler, length_bands
from kdlight.data.traces.encode import EncodedTrace


def samples(**prompts: list[int]) -> list[list[EncodedTrace]]:
    return [
        [EncodedTrace(prompt, [1], [2] * size, rejected=False)]
        for prompt, sizes in prompts.items()
        for size in sizes
    ]


def sizes(rows: Any, bands: list[list[int]]) -> list[list[int]]:
    return [[len(rows[index][0].completion) for index in band] for band in bands]


def test_each_band_has_one_response_of_each_prompt() -> None:
    rows = samples(a=[5, 9, 1], b=[2, 8, 4])
    assert sizes(rows, length_bands(rows, "long_to_short")) == [[9, 8], [5, 4], [1, 2]]
    assert sizes(rows, length_bands(rows, "short_to_long")) == [[1, 2], [5, 4], [9, 8]]


def test_a_prompt_with_fewer_responses_repeats_them() -> None:
    rows = samples(many=[5, 4, 3, 2, 1], two=[7, 6], one=[9])
    found = sizes(rows, length_bands(rows, "long_to_short"))
    assert [band[0] for band in found] == [5, 4, 3, 2, 1]
    assert [band[1] for band in found][::4] == [7, 6]
    assert {band[2] for band in found} == {9}


def test_the_shortest_responses_come_in_the_last_epoch_of_a_short_run() -> None:
    """One prompt with many responses leaves the others where they are."""
    rows = samples(many=[8, 7, 6, 5, 4, 3, 2, 1], three=[9, 5, 1])
    found = sizes(rows, length_bands(rows, "long_to_short", epochs=3))
    assert [band[1] for band in found] == [9, 5, 1]
    assert [band[0] for band in found] == [8, 4, 1]
    assert len(length_bands(rows, "long_to_short", epochs=100)) == 8
    with pytest.raises(ValueError, match="the run has one epoch; set max_epochs to 8"):
        length_bands(rows, "long_to_short", epochs=1)


def test_every_seed_of_torch_is_one() -> None:
    sampler = CurriculumSampler([[0, 1, 2]], seed=2**64 - 1)
    sampler.set_epoch(3)
    assert sorted(sampler) == [0, 1, 2]


def test_prompts_with_one_response_have_no_curriculum() -> None:
    with pytest.raises(ValueError, match="every prompt has only one; add responses"):
        length_bands(samples(a=[1], b=[2]), "long_to_short")


@pytest.mark.parametrize("epoch", range(4))
def test_the_ranks_share_the_samples_of_a_band(epoch: int) -> None:
    bands = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    ranks = [CurriculumSampler(bands, seed=3, num_replicas=2, rank=rank) for rank in range(2)]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    drawn = [list(sampler) for sampler in ranks]
    assert sorted(drawn[0] + drawn[1]) == bands[min(epoch, 2)]
    assert [len(sampler) for sampler in ranks] == [2, 2]


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    bands = [list(range(50))]
    orders = []
    for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0)):
        sampler = CurriculumSampler(bands, seed=seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
