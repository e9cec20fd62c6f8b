"""Similarities of samples."""

from __future__ import annotations

import torch

from kdlight.losses.features.similarity_preserving import similarity_preserving


def test_maps_are_flattened() -> None:
    student, teacher = torch.randn(4, 3, 2, 2), torch.randn(4, 5, 6)
    flat = similarity_preserving(student.flatten(1), teacher.flatten(1))
    assert torch.equal(similarity_preserving(student, teacher), flat)


def test_two_samples_by_hand() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 5.0]])  # G is the identity
    teacher = torch.tensor([[2.0], [2.0]])  # all entries are 1 / sqrt(2)
    expected = (2 * (1 - 0.5**0.5) ** 2 + 2 * 0.5) / 4
    torch.testing.assert_close(similarity_preserving(student, teacher), torch.tensor(expected))


def test_one_sample_resembles_itself() -> None:
    student = torch.randn(1, 3, requires_grad=True)
    value = similarity_preserving(student, torch.randn(1, 4))
    assert value.item() < 1e-12
    assert torch.autograd.grad(value, student)[0].abs().max() < 1e-6
