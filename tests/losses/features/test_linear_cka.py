"""Centered kernel alignment: two forms of one value, and what it does not depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.losses.features import linear_cka as module
from kdlight.losses.features.linear_cka import linear_cka


def pair(count: int = 8, *widths: int) -> tuple[Tensor, Tensor]:
    first, second = widths or (3, 5)
    student = torch.randn(count, first, dtype=torch.float64, requires_grad=True)
    return student, torch.randn(count, second, dtype=torch.float64)


@pytest.mark.parametrize(("count", "width"), [(4, 3), (7, 3), (20, 3), (5, 30)])
def test_both_forms_have_one_value_and_one_gradient(count: int, width: int) -> None:
    student, teacher = pair(count, width, 4)
    found = []
    for form in (module.from_grams, module.from_covariances):
        value = form(module.centered(student), module.centered(teacher))
        found.append((value, torch.autograd.grad(value, student)[0]))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("count", "unused"), [(7, "from_covariances"), (8, "from_grams"), (100, "from_grams")]
)
def test_the_cheaper_form_is_used(count: int, unused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module, unused)
    linear_cka(*pair(count, 3, 5))


@pytest.mark.parametrize("debiased", [False, True])
def test_a_shift_a_scale_and_a_rotation_change_nothing(debiased: bool) -> None:
    student, teacher = pair()
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    moved = -0.1 * student @ rotation + torch.randn(3).double()
    one = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(linear_cka(student, moved, debiased=debiased), one)
    expected = linear_cka(student, teacher, debiased=debiased)
    torch.testing.assert_close(linear_cka(moved, teacher, debiased=debiased), expected)
    torch.testing.assert_close(linear_cka(teacher, student, debiased=debiased), expected)


def test_other_linear_maps_do_change_it() -> None:
    student, _ = pair()
    stretched = student * torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    assert linear_cka(student, stretched) < 0.95


def test_values_are_between_0_and_1() -> None:
    for _ in range(20):
        assert 0 <= linear_cka(*pair(5)) <= 1 + 1e-12
        assert -1 - 1e-12 <= linear_cka(*pair(5), debiased=True) <= 1 + 1e-12


def test_uncorrelated_features_have_0() -> None:
    student = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    teacher = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert linear_cka(student, teacher) == 0


def test_without_bias_unrelated_features_have_0_on_average() -> None:
    biased, unbiased = [], []
    for _ in range(100):
        features = pair(10, 40, 40)
        biased.append(linear_cka(*features).item())
        unbiased.append(linear_cka(*features, debiased=True).item())
    assert sum(biased) / 100 > 0.7
    assert abs(sum(unbiased) / 100) < 0.05


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e5 / 3])
@pytest.mark.parametrize("width", [3, 30])
def test_constant_features_have_0_and_no_slope(
    debiased: bool, dtype: torch.dtype, value: float, width: int
) -> None:
    student = torch.full((7, width), value, dtype=dtype, requires_grad=True)
    teacher = torch.randn(7, width, dtype=dtype, requires_grad=True)
    similarity = linear_cka(student, teacher, debiased=debiased)
    assert similarity == 0
    for slope in torch.autograd.grad(similarity, (student, teacher)):
        assert (slope == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [4, 7, 64])
def test_samples_at_equal_distances_have_0_without_bias(dtype: torch.dtype, count: int) -> None:
    """Their centered products are 0 but for rounding, whose ratio would be any number."""
    student = 0.3 * torch.eye(count, count + 2, dtype=dtype)[torch.randperm(count)]
    rotation = torch.linalg.qr(torch.randn(count + 2, count + 2, dtype=dtype)).Q
    student = (student @ rotation).requires_grad_()
    similarity = linear_cka(student, torch.randn(count, 3, dtype=dtype), debiased=True)
    assert similarity == 0
    assert (torch.autograd.grad(similarity, student)[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [2, 3, 7, 11, 100, 1000, 4097])
def test_a_constant_column_is_exactly_0(dtype: torch.dtype, count: int) -> None:
    constants = torch.randn(500, dtype=dtype) * 10.0 ** torch.randint(-6, 7, (500,)) / 3
    rows = constants.expand(count, 500)
    assert (module.centered(rows) == 0).all()


@pytest.mark.parametrize("debiased", [False, True])
def test_a_constant_column_beside_others_changes_nothing(debiased: bool) -> None:
    student, teacher = pair()
    expected = linear_cka(student, teacher, debiased=debiased)
    wide = torch.cat([student, torch.full((8, 1), 1e6 / 3, dtype=torch.float64)], -1)
    torch.testing.assert_close(linear_cka(wide, teacher, debiased=debiased), expected)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_samples_have_0_and_a_graph(count: int) -> None:
    student, teacher = pair(count)
    similarity = linear_cka(student, teacher)
    assert similarity == 0
    assert (torch.autograd.grad(similarity, student)[0] == 0).all()


def test_the_unbiased_estimate_needs_four_samples() -> None:
    with pytest.raises(ValueError, match="debiased CKA needs at least 4 samples, got 3"):
        linear_cka(*pair(3), debiased=True)
    assert linear_cka(*pair(4), debiased=True).isfinite()
