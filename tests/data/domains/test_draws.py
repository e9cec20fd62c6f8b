"""Draws of samples by the weights of their domains."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from kdlight.data.domains.draws import BLOCK, DomainDraws

SIZES = [50, 7, 300]


def counts(draws: DomainDraws, start: int, stop: int) -> list[int]:
    return draws.domains(start, stop).bincount(minlength=len(draws.sizes)).tolist()


@pytest.mark.parametrize("weights", [[0.2, 0.5, 0.3], [0.05, 0.9, 0.05], None])
def test_frequencies_are_the_weights(weights: list[float] | None) -> None:
    draws, number = DomainDraws(SIZES, seed=3, weights=weights), 20_000
    for weight, count in zip(draws.weights, counts(draws, 0, number), strict=True):
        assert abs(count - weight * number) < 3 * sqrt(number * weight * (1 - weight))


def test_frequencies_follow_new_weights_from_their_draw_on() -> None:
    draws, number = DomainDraws(SIZES, seed=0), 20_000
    draws.set_weights([0.6, 0.3, 0.1], draw=5_001)
    for start, weights in ((0, [1 / 3] * 3), (5_001, [0.6, 0.3, 0.1])):
        stop = 5_001 if start == 0 else start + number
        for weight, count in zip(weights, counts(draws, start, stop), strict=True):
            n = stop - start
            assert abs(count - weight * n) < 3 * sqrt(n * weight * (1 - weight))


def test_a_domain_comes_whole_before_it_comes_again() -> None:
    draws = DomainDraws(SIZES, seed=5)
    draws.set_weights([0.1, 0.8, 0.1], draw=BLOCK + 17)
    samples = draws.samples(0, 2 * BLOCK)
    orders = set()
    for start, size in zip((0, 50, 57), SIZES, strict=True):
        mine = samples[(samples >= start) & (samples < start + size)]
        assert len(mine) > size
        for each in mine.split(size)[:-1]:
            assert sorted(each.tolist()) == list(range(start, start + size))
            orders.add(tuple(each.tolist()))
    assert len(orders) > 100  # a new order each time


def test_a_sample_belongs_to_the_domain_of_its_draw() -> None:
    draws = DomainDraws(SIZES, seed=1)
    borders = torch.tensor([50, 57])
    samples = draws.samples(100, 900)
    assert torch.equal(torch.bucketize(samples, borders, right=True), draws.domains(100, 900))


def test_draws_are_the_same_in_any_order_and_by_one() -> None:
    first, second = DomainDraws(SIZES, seed=2), DomainDraws(SIZES, seed=2)
    for draws in (first, second):
        draws.set_weights([0.5, 0.25, 0.25], draw=1_000)
    late = second.samples(9_000, 9_100)
    assert first.samples(0, 9_100)[9_000:].equal(late)
    assert [second[number] for number in (3, 8_999, 5_000)] == [
        int(first.samples(number, number + 1)) for number in (3, 8_999, 5_000)
    ]
    assert first.samples(4, 4).tolist() == []


@pytest.mark.parametrize("draw", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_new_weights_change_no_draw_before_them(draw: int) -> None:
    changed, plain = (DomainDraws(SIZES, seed=4) for _ in range(2))
    before = changed.samples(0, 3 * BLOCK)  # all of them, which must not be remembered
    changed.set_weights([0.0, 0.0, 1.0], draw=draw)
    after = changed.samples(0, 3 * BLOCK)
    assert torch.equal(after[:draw], before[:draw])
    assert bool((after[draw:] >= 57).all())
    assert not torch.equal(after[draw:], before[draw:])
    plain.plan = changed.plan  # in another process, with nothing drawn yet
    assert torch.equal(plain.samples(0, 3 * BLOCK), after)


def test_the_last_weights_for_a_draw_hold() -> None:
    draws = DomainDraws(SIZES, seed=0)
    draws.set_weights([0.0, 0.0, 1.0], draw=9)
    draws.set_weights([1.0, 0.0, 0.0], draw=9)
    assert draws.plan[1:] == [(9, [1.0, 0.0, 0.0])]
    assert bool((draws.samples(9, 200) < 50).all())


def test_seeds_give_other_draws() -> None:
    one, other = (DomainDraws(SIZES, seed=seed).samples(0, 50) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_wrong_weights_and_plans_are_refused() -> None:
    draws = DomainDraws(SIZES, seed=0)
    for weights in ([0.5, 0.5], [0.5, 0.6, 0.1], [1.5, -0.5, 0.0], [float("nan")] * 3):
        with pytest.raises(ValueError, match="weights must be 3 numbers in"):
            draws.set_weights(weights, draw=1)
    draws.set_weights([0.2, 0.2, 0.6], draw=10)
    with pytest.raises(ValueError, match="draw must be at least 10, got 9"):
        draws.set_weights([0.2, 0.2, 0.6], draw=9)
    for plan in ([], [(1, [1.0, 0.0, 0.0])], [(0, [1.0, 0.0, 0.0])] * 2):
        with pytest.raises(ValueError, match="a plan must begin at draw 0"):
            draws.plan = plan


def test_an_empty_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="the number of samples of a domain must be at least 1"):
        DomainDraws([3, 0], seed=0)
