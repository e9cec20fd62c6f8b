"""Samples: the same for a seed, with a partial mask, and as inputs of a loss."""

from __future__ import annotations

import torch

from kdlight.testing import Sample


def test_a_seed_gives_the_same_sample() -> None:
    one, same, other = (Sample.draw(seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.student, same.student)
    assert torch.equal(one.randn(2), same.randn(2))
    assert not torch.equal(one.student, other.student)


def test_every_mask_is_partial() -> None:
    for seed in range(20):
        mask = Sample.draw(batch=1, positions=2, seed=seed).mask
        assert mask.tolist() == [[True, False]]


def test_sizes_are_arguments() -> None:
    sample = Sample.draw(batch=3, positions=4, vocabulary=6)
    assert sample.student.shape == sample.teacher.shape == (3, 4, 6)
    assert sample.labels.shape == sample.mask.shape == (3, 4)
    assert sample.labels.max() < 6


def test_only_the_student_takes_a_gradient() -> None:
    sample = Sample.draw()
    assert sample.student.requires_grad
    assert not sample.teacher.requires_grad


def test_inputs_hold_all_positions_unless_changed() -> None:
    sample = Sample.draw()
    inputs = sample.inputs()
    assert inputs.student.logits() is sample.student
    assert inputs.labels is sample.labels
    assert inputs.mask is None
    masked = sample.inputs(mask=sample.mask, teacher=None)
    assert masked.mask is sample.mask
    assert masked.teacher is None
