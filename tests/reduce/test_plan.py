"""Which logits are computed in chunks, and of which size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight import Chunking, Dense, Projected, TopK
from kdlight.objectives import ForwardKL
from kdlight.reduce import describe_plan, plan
from kdlight.reduce.plan import MAX_DENSE_ENTRIES, spans
from tests.support.chunked_data import N, ProjectedData, V

CPU = torch.device("cpu")


class _Function(Projected):
    """Logits of a head that is a plain function."""

    def __init__(self, data: ProjectedData) -> None:
        super().__init__(data.hidden, lambda hidden: data.head(hidden))

    @property
    def shape(self) -> torch.Size:
        return torch.Size([N, V])


def test_impossible_chunks_raise_with_the_reason() -> None:
    data = ProjectedData()
    with pytest.raises(ValueError, match="plain function"):
        ForwardKL()(data.inputs(True, student=_Function(data)))
    data.teacher_head.requires_grad_(True)
    with pytest.raises(ValueError, match="the teacher requires a gradient"):
        ForwardKL()(data.inputs(True))
    assert ForwardKL()(data.inputs("auto")).total.requires_grad
    with pytest.raises(ValueError, match="chunked must be"):
        ForwardKL()(data.inputs("always"))
    with pytest.raises(ValueError, match="tokens must be at least 1, got 0"):
        Chunking(tokens=0)


def test_a_student_source_of_another_type_is_not_evaluated_in_chunks() -> None:
    student = TopK.of(torch.zeros(3, V), 2)
    assert plan(student, None, 3, "auto") == (
        None,
        "gradients of a student source of type TopK are unknown",
    )
    with pytest.raises(ValueError, match="chunked=True, but gradients of a student source"):
        plan(student, None, 3, True)


def test_auto_decides_by_the_number_of_entries() -> None:
    student = Dense(torch.empty(1, 1).expand(4, MAX_DENSE_ENTRIES // 4))
    assert plan(student, None, 4)[0] is None
    assert plan(student, None, 5) == (Chunking(), f"{MAX_DENSE_ENTRIES // 4 * 5} entries are many")
    assert plan(student, None, 5, False) == (None, "chunked is False")
    assert plan(student, None, 1, Chunking(3, 2))[0] == Chunking(3, 2)


def test_the_plan_of_valid_positions_is_described() -> None:
    student, mask = Dense(torch.zeros(2, 3, V)), torch.tensor([[True, False, False]] * 2)
    described = describe_plan(student, None, mask, Chunking(tokens=1))
    assert described.startswith(f"logits of 2 positions x {V} entries are computed in chunks of 1")
    assert describe_plan(student, None, mask) == (
        f"logits of 2 positions x {V} entries are computed at once ({2 * V} entries are few)"
    )


@pytest.mark.parametrize(
    ("chunking", "rows", "expected"),
    [
        (Chunking(5, 2), 13, (5, 2)),
        (Chunking(8, 2), 9, (6, 2)),  # two chunks of about equal size, a multiple of the block
        (Chunking(100, 100), 13, (100, 100)),
        (Chunking(100, 3), 4, (6, 3)),  # a chunk is no longer than the rows need
        (Chunking(1, 4), 13, (1, 1)),  # a block is no longer than its chunk
        (Chunking(4, 2), 0, (1, 1)),
    ],
)
def test_sizes_of_chunk_and_block(chunking: Chunking, rows: int, expected: Any) -> None:
    assert chunking.sizes(rows, V, CPU, torch.float32) == expected


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [(5, 2, [(0, 2), (2, 4), (4, 5)]), (4, 4, [(0, 4)]), (0, 3, [(0, 0)])],
)
def test_spans_cover_all_rows(rows: int, size: int, expected: list[tuple[int, int]]) -> None:
    assert spans(rows, size) == [slice(*each) for each in expected]
