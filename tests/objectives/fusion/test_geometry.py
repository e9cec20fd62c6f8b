"""Features of a position, against their formulas written out."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives.fusion.geometry import BLOCKS, SCALARS, class_features, scalar_features


def rows(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64) * 2
    return student, teacher, torch.tensor([0, 1, 2, 3, -100, 1])


def test_vectors_of_a_row_are_those_of_the_formula():
    student, teacher, labels = rows()
    means = torch.rand(6, 4, dtype=torch.float64)
    features = class_features(student, teacher, labels, means)
    assert features.shape == (6, BLOCKS * 4)
    for row, label in enumerate(labels.tolist()):
        s, t, m = student[row].softmax(0), teacher[row].softmax(0), means[row]
        g = torch.zeros(4, dtype=torch.float64)
        if label >= 0:
            g[label] = 1
        pairs = [(m, s), (g, s), (t, s), (t, g), (m, g)]
        expected = torch.cat([s, t, g, m, *((a - b) ** 2 for a, b in pairs)])
        torch.testing.assert_close(features[row], expected)


def test_scalars_of_a_row_are_those_of_the_formula():
    student, teacher, labels = rows(1)
    features = scalar_features(student, teacher, labels)
    assert features.shape == (6, SCALARS)
    for row, label in enumerate(labels.tolist()):
        s, t = student[row].softmax(0), teacher[row].softmax(0)
        g = torch.zeros(4, dtype=torch.float64)
        if label >= 0:
            g[label] = 1
        expected = [
            s @ g,
            t @ g,
            torch.exp((s * s.log()).sum()),
            torch.exp((t * t.log()).sum()),
            torch.exp(-(t * (t / s).log()).sum()),
            ((t - s) ** 2).sum(),
            ((s - g) ** 2).sum(),
            ((t - g) ** 2).sum(),
        ]
        torch.testing.assert_close(features[row], torch.stack(expected))


@pytest.mark.parametrize("kind", ["vectors", "scalars"])
def test_impossible_tokens_and_extreme_logits_give_finite_features(kind: str):
    student = torch.tensor([[0.0, -torch.inf, 1e4, 0.0], [-torch.inf, 0.0, 0.0, 1.0]])
    teacher = torch.tensor([[0.0, -torch.inf, 0.0, 1e4], [5.0, 0.0, -torch.inf, 0.0]])
    labels = torch.tensor([0, 1])
    if kind == "vectors":
        features = class_features(student, teacher, labels, torch.full((2, 4), 0.25))
    else:
        features = scalar_features(student, teacher, labels)
    assert features.isfinite().all()
    assert features.min() >= 0
    assert features.max() <= 2


def test_a_vocabulary_that_is_padded_changes_no_scalar():
    student, teacher, labels = rows(2)
    padding = torch.full((6, 3), -torch.inf, dtype=torch.float64)
    padded = scalar_features(
        torch.cat([student, padding], -1), torch.cat([teacher, padding], -1), labels
    )
    torch.testing.assert_close(padded, scalar_features(student, teacher, labels))


def test_features_take_no_gradient():
    student, teacher, labels = rows()
    student.requires_grad_()
    assert not scalar_features(student, teacher, labels).requires_grad
    assert not class_features(student, teacher, labels, torch.zeros(6, 4)).requires_grad
