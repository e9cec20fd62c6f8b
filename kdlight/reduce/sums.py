"""From logits sources and a per-row rule to one sum and one count.

Positions that do not count are dropped before anything of the width of the vocabulary is made, so
nothing that stands there (a NaN, a label outside the vocabulary) can reach a value or a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.logits import Dense, LogitsSource, Projected
from kdlight.reduce.blocks import Job, given, total_of, values_of, weighted_sum
from kdlight.reduce.chunking import Chunked, Chunking, plan
from kdlight.reduce.loss import Loss, Rows, split_rows
from kdlight.reduce.slopes import ClosedForm, Rule
from kdlight.reduce.stored import beside_student


class _Packed(NamedTuple):
    """Sources as they are, and of labels and weights only what counts."""

    rule: Rule
    student: LogitsSource
    teacher: LogitsSource | None
    labels: Tensor | None
    weights: Tensor | None
    index: Tensor | None
    rows: int


def token_sum(
    rows: Rows,
    student: LogitsSource,
    teacher: LogitsSource | None = None,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    closed_form: ClosedForm | None = None,
    parameters: Sequence[Tensor] = (),
    chunked: Chunked = "auto",
) -> Loss:
    """Sum ``rows`` over the positions that ``mask`` keeps.

    Args:
        rows: ``(n, V), (n, V), (n,) -> (n,)``, or a pair of that and a dict of further ``(n,)``
            values to be summed for the log, as they are. Each row by itself: it is evaluated on
            blocks of them.
        student: source of ``(..., V)``.
        teacher: source of ``(..., V)`` on the same positions, or None.
        labels: aligned labels ``(...)``, or None.
        mask: boolean ``(...)``, True where a position counts; None keeps all.
        weights: what each position weighs ``(...)``, of any sign, without a gradient; None for 1.
        closed_form: ``(n, V), (n, V), (n,) -> (n,), (n, V)``, the values of ``rows`` and their
            slopes, or None: a shorter way to the same numbers.
        parameters: tensors that ``rows`` reads and that are learned with it.
        chunked: ``"auto"`` makes many logits in chunks and few at once; `Chunking` has the sizes.

    Returns:
        The sum and the number of positions kept: 0 with a graph where none is.

    Raises:
        ValueError: shapes that do not fit, or chunks that are demanded and cannot be had.
        RuntimeError: a second backward pass through a sum that was evaluated in chunks.

    Example:
        >>> from kdlight.logits import Dense
        >>> squares = lambda student, teacher, labels: (student - teacher).square().sum(-1)
        >>> student, teacher = Dense(torch.zeros(3, 2)), Dense(torch.ones(3, 2))
        >>> token_sum(squares, student, teacher, mask=torch.tensor([True, False, True]))[:2]
        (tensor(4.), tensor(2))
    """
    packed = _pack(
        Rule(rows, closed_form, tuple(parameters)), student, teacher, labels, mask, weights
    )
    chunking, _ = plan(student, teacher, packed.rows, chunked)
    if chunking is not None:
        total, parts = total_of(_job(packed, chunking))
    else:
        values, extras = _at_once(packed)
        total = weighted_sum(values, packed.weights)
        parts = {name: value.detach().sum() for name, value in extras.items()}
    return Loss(total, torch.tensor(packed.rows, device=total.device), parts)


def token_values(
    rows: Rows,
    student: LogitsSource,
    teacher: LogitsSource | None = None,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    closed_form: ClosedForm | None = None,
    parameters: Sequence[Tensor] = (),
    chunked: Chunked = "auto",
) -> Tensor:
    """``rows`` of the positions that ``mask`` keeps, in their order, ``(n,)`` with a graph.

    For losses that are no sum over tokens, such as a function of the log-probability of a sequence.
    In chunks it costs the products with the heads once more: what a value weighs is known only in
    the backward pass, which makes the logits again. Arguments and errors are those of `token_sum`.

    Example:
        >>> from kdlight.logits import Dense
        >>> squares = lambda student, teacher, labels: (student - teacher).square().sum(-1)
        >>> token_values(squares, Dense(torch.zeros(3, 2)), Dense(torch.ones(3, 2)))
        tensor([2., 2., 2.])
    """
    packed = _pack(Rule(rows, closed_form, tuple(parameters)), student, teacher, labels, mask, None)
    chunking, _ = plan(student, teacher, packed.rows, chunked)
    if chunking is None:
        return _at_once(packed)[0]
    return values_of(_job(packed, chunking))


def evaluation(
    student: LogitsSource,
    teacher: LogitsSource | None,
    mask: Tensor | None = None,
    chunked: Chunked = "auto",
) -> str:
    """How `token_sum` evaluates such logits, and why, in words.

    Example:
        >>> from kdlight.logits import Dense
        >>> evaluation(Dense(torch.zeros(2, 3, 5)), None)
        'logits of 6 tokens x 5 entries are made all at once (30 entries are few)'
    """
    rows, vocabulary = prod(student.shape[:-1]), student.shape[-1]
    rows = rows if mask is None else int(mask.sum())
    chunking, why = plan(student, teacher, rows, chunked)
    logits = f"logits of {rows} tokens x {vocabulary} entries are made"
    if chunking is None:
        return f"{logits} all at once ({why})"
    assert isinstance(student, (Dense, Projected))
    tokens, _ = chunking.sizes(rows, vocabulary, given(student))
    return f"{logits} in chunks of {tokens} tokens ({why})"


def _job(packed: _Packed, chunking: Chunking) -> Job:
    rule = packed.rule._replace(
        student_transform=getattr(packed.student, "transform", None),
        teacher_transform=getattr(packed.teacher, "transform", None),
    )
    assert isinstance(packed.student, (Dense, Projected))  # the plan saw to it
    return Job(
        rule,
        packed.student,
        packed.teacher,
        packed.labels,
        packed.weights,
        packed.index,
        packed.rows,
        chunking,
    )


def _at_once(packed: _Packed) -> tuple[Tensor, dict[str, Tensor]]:
    student = packed.student.select(packed.index).logits()
    teacher = None
    if packed.teacher is not None:
        teacher = beside_student(packed.teacher.select(packed.index), student)
    return split_rows(packed.rule.values(student, teacher, packed.labels))


def _pack(
    rule: Rule,
    student: LogitsSource,
    teacher: LogitsSource | None,
    labels: Tensor | None,
    mask: Tensor | None,
    weights: Tensor | None,
) -> _Packed:
    positions = student.shape[:-1]
    for name, shape in (
        ("teacher", None if teacher is None else teacher.shape[:-1]),
        ("labels", None if labels is None else labels.shape),
        ("mask", None if mask is None else mask.shape),
        ("weights", None if weights is None else weights.shape),
    ):
        if shape is not None and shape != positions:
            raise ValueError(
                f"{name} stands for positions of shape {tuple(shape)}, the student for"
                f" {tuple(positions)}; align them before the loss (shift and crop the batch once)"
            )
    index = None if mask is None else mask.flatten().nonzero().squeeze(-1)
    count = prod(positions) if index is None else len(index)
    return _Packed(
        rule=rule,
        student=student,
        teacher=teacher,
        labels=_pick(labels, index),
        weights=None if weights is None else _pick(weights.detach(), index),
        index=None if index is not None and count == prod(positions) else index,
        rows=count,
    )


def _pick(each: Tensor | None, index: Tensor | None) -> Tensor | None:
    if each is None:
        return None
    return each.flatten() if index is None else each.flatten().index_select(0, index)
