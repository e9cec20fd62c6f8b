"""Wrong labels: how many, and that they are wrong."""

from __future__ import annotations

import pytest
import torch

from kdlight.data.label_noise import check_label_noise, with_wrong_labels


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_exactly_the_share_is_replaced_and_by_another_class(share):
    labels = torch.arange(5).repeat(200)
    noisy = with_wrong_labels(labels, share=share, classes=5, seed=0)
    assert (noisy != labels).sum() == share * len(labels)
    assert noisy.min() >= 0
    assert noisy.max() < 5


def test_all_other_classes_are_equally_likely():
    labels = torch.full((30_000,), 2)
    counts = with_wrong_labels(labels, share=1.0, classes=4, seed=0).bincount(minlength=4)
    assert counts[2] == 0
    # three standard deviations of a binomial count are 245
    assert (counts[[0, 1, 3]] - 10_000).abs().max() < 245


def test_the_seed_decides_and_no_other_random_number_is_drawn():
    labels = torch.zeros(100, dtype=torch.long)
    before = torch.get_rng_state()
    first = with_wrong_labels(labels, share=0.5, classes=3, seed=0)
    assert torch.equal(first, with_wrong_labels(labels, share=0.5, classes=3, seed=0))
    assert not torch.equal(first, with_wrong_labels(labels, share=0.5, classes=3, seed=1))
    assert torch.equal(before, torch.get_rng_state())
    assert not labels.any()


def test_a_share_must_be_a_number_from_0_to_1():
    with pytest.raises(TypeError, match="label_noise must be a number"):
        check_label_noise("half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"label_noise must be in \[0.0, 1.0\], got nan"):
        check_label_noise(float("nan"))
