"""Splits into training and validation depend on the seed only."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlight.data.splits import check_validation_fraction, sample_prompts, shuffle, split_documents


@given(st.lists(st.integers(1, 9), min_size=1), st.floats(0.05, 0.95))
def test_a_split_takes_no_document_more_than_it_must(lengths, fraction):
    documents = [torch.full((length,), index) for index, length in enumerate(lengths)]
    first, others = split_documents(documents, fraction=fraction)
    assert [d[0] for d in first + others] == list(range(len(lengths)))
    wanted = fraction * sum(lengths)
    assert sum(map(len, first)) >= wanted
    assert sum(map(len, first[:-1])) < wanted


def test_a_shuffle_is_a_permutation_that_the_seed_decides() -> None:
    items = [f"item {i}" for i in range(20)]
    before = torch.get_rng_state()
    assert sorted(shuffle(items, seed=3)) == sorted(items)
    assert shuffle(items, seed=3) == shuffle(items, seed=3) != shuffle(items, seed=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_sampled_prompts_are_a_fraction_rounded_up_in_any_order() -> None:
    names = [f"prompt {i}" for i in range(11)]
    sampled = sample_prompts(names, 0.25, 0)
    assert len(sampled) == 3
    assert sampled == sample_prompts(names[::-1], 0.25, 0) != sample_prompts(names, 0.25, 1)
    assert sample_prompts(names, 0.0, 0) == set()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_leaves_a_part_empty_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"validation_fraction must be in \(0, 1\), got"):
        check_validation_fraction(fraction)


@pytest.mark.parametrize("fraction", ["0.1", None, [0.1]], ids=range(3))
def test_a_fraction_is_a_number(fraction) -> None:
    with pytest.raises(TypeError, match="^validation_fraction must be a number, got "):
        check_validation_fraction(fraction)
