"""Correlations of channels."""

from __future__ import annotations

import pytest
import torch

from kdlight.losses.features.inter_channel_correlation import inter_channel_correlation


def test_the_arrangement_of_positions_does_not_count() -> None:
    student, teacher = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 6).double()
    expected = inter_channel_correlation(student, teacher)
    moved = student.flatten(2)[..., torch.randperm(20)]
    torch.testing.assert_close(inter_channel_correlation(moved, teacher), expected)


def test_each_sample_may_have_a_scale_of_its_own() -> None:
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6)
    expected = inter_channel_correlation(student, teacher)
    scales = torch.tensor([1e-24, 1e24]).view(2, 1, 1, 1)
    torch.testing.assert_close(inter_channel_correlation(scales * student, teacher), expected)


def test_a_channel_that_is_off_has_no_slope() -> None:
    student = torch.randn(2, 3, 4)
    student[:, 1] = 0.0
    student.requires_grad_()
    value = inter_channel_correlation(student, torch.randn(2, 3, 4)).sum()
    (slope,) = torch.autograd.grad(value, student)
    assert slope.isfinite().all()
    assert (slope[:, [0, 2]] != 0).any()


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"number of channels, got shapes \(2, 3, 4\) and \(2, 5"):
        inter_channel_correlation(torch.zeros(2, 3, 4), torch.zeros(2, 5, 4))
    with pytest.raises(ValueError, match=r"teacher features must be maps .* got shape \(2, 3\)"):
        inter_channel_correlation(torch.zeros(2, 3, 4), torch.zeros(2, 3))
