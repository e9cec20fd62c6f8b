"""Sources of several teachers: rows of different teachers, averages, and rows without one."""

from __future__ import annotations

import pytest
import torch

from kdlight import Dense, losses
from kdlight.sources import ConfidenceWeights, Mixture, Unqueried, stack

CPU = torch.device("cpu")
FIRST, SECOND = (
    torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
)


def stacked(second: object = None) -> object:
    """Rows 0 and 3 of a batch of four from the first source, rows 1 and 2 from the second."""
    sources = [Dense(FIRST), Dense(SECOND) if second is None else second]
    rows = [torch.tensor([0, 3]), torch.tensor([1, 2])]
    return stack(sources, rows, torch.Size([4, 3]), CPU)  # type: ignore[arg-type]


WHOLE = torch.stack([FIRST[0], SECOND[0], SECOND[1], FIRST[1]])


@pytest.mark.parametrize("index", [None, torch.tensor([11, 3, 0, 7]), slice(2, 5), slice(0, 0)])
def test_rows_come_from_their_sources(index: torch.Tensor | slice | None) -> None:
    source = stacked()
    expected = WHOLE.view(12, 5) if index is None else WHOLE.view(12, 5)[index]
    selected = source.select(index)  # type: ignore[attr-defined]
    assert selected.shape == expected.shape
    assert torch.equal(selected.logits(), expected)
    assert torch.equal(source.logits(), WHOLE)  # type: ignore[attr-defined]


def test_each_source_gets_the_rows_of_the_student_that_it_owns() -> None:
    student = torch.randn(12, 5)
    source = stacked(Unqueried(torch.Size([2, 3]), 5))
    result = source.given_student(student).view(4, 3, 5)  # type: ignore[attr-defined]
    assert torch.equal(result[[0, 3]], FIRST)
    assert torch.equal(result[[1, 2]], student.view(4, 3, 5)[[1, 2]])


def test_the_widest_dtype_decides() -> None:
    double = Dense(SECOND.double())
    assert stacked(double).dtype == torch.float64  # type: ignore[attr-defined]
    assert stacked(double).logits().dtype == torch.float64  # type: ignore[attr-defined]
    assert Mixture((Dense(FIRST.half()), double), (0.5, 0.5)).dtype == torch.float64


def test_positions_that_were_not_queried_have_the_students_logits() -> None:
    student = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    source = Unqueried(torch.Size([4, 3]), 5)
    logits = source.given_student(student)
    assert torch.equal(logits, student)
    assert not logits.requires_grad
    loss = losses.reverse_kl(student, logits).sum()
    (grad,) = torch.autograd.grad(loss, student)
    assert abs(loss.item()) < 1e-12
    assert grad.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("index", "rows"), [(None, 12), (torch.tensor([1, 5]), 2), (slice(3, 10), 7), (slice(9, 99), 3)]
)
def test_as_many_unqueried_rows_as_are_selected(
    index: torch.Tensor | slice | None, rows: int
) -> None:
    source = Unqueried(torch.Size([4, 3]), 5)
    assert source.shape == (4, 3, 5)
    assert source.select(index).shape == (rows, 5)


def test_without_a_student_unqueried_positions_have_no_logits() -> None:
    with pytest.raises(ValueError, match=r"not queried.*given_student\(student_logits\)"):
        Unqueried(torch.Size([2]), 5).logits()
    # and their dtype does not widen that of others
    assert stacked(Unqueried(torch.Size([2, 3]), 5)).dtype == FIRST.dtype  # type: ignore[attr-defined]


def test_shares_are_those_of_the_positions_that_were_evaluated() -> None:
    sources, rows = [Dense(FIRST), Dense(SECOND)], [torch.tensor([0, 3]), torch.tensor([1, 2])]
    options = {"names": ("a", "b", "c"), "numbers": (2, 0)}
    source = stack(sources, rows, torch.Size([4, 3]), CPU, **options)
    assert source.shares == {}
    weights = source.position_weights()
    assert weights[0].tolist() == [[0, 0, 1]] * 3
    assert weights[1].tolist() == [[1, 0, 0]] * 3
    source.select(torch.tensor([0, 3, 4, 5])).given_student(torch.zeros(4, 5))
    assert {name: share.item() for name, share in source.shares.items()} == {
        "a": 0.75,
        "b": 0.0,
        "c": 0.25,
    }


def test_without_labels_each_source_is_without_them() -> None:
    first = Mixture((Dense(FIRST), Dense(SECOND)), ConfidenceWeights(torch.zeros(2, 3).long()))
    rows = [torch.tensor([0, 1])]
    plain = stack([first], rows, torch.Size([2, 3]), CPU).without_labels().logits().exp()
    torch.testing.assert_close(plain, (FIRST.softmax(-1) + SECOND.softmax(-1)) / 2)
    same = stacked()
    assert same.without_labels() is same  # type: ignore[attr-defined]
