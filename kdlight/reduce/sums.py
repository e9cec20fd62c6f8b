"""From logits sources and a per-token loss to one sum and one count.

Invalid positions are dropped before anything as wide as the vocabulary is computed, so that what
they hold (a NaN, a label outside the vocabulary) reaches neither a value nor a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor

from kdlight.checks import can_read
from kdlight.losses.labels import check_mask
from kdlight.losses.log_space import widen
from kdlight.reduce.divide import divide
from kdlight.reduce.functions import TokenWork, chunked_sum, chunked_values
from kdlight.reduce.gradients import TokenRule, ValueAndGrad
from kdlight.reduce.loss import Loss, PerTokenLoss, split_values
from kdlight.reduce.plan import Chunked, plan
from kdlight.reduce.shares import Evaluate, divided_rows
from kdlight.sources import LogitsSource


def token_sum(
    per_token_loss: PerTokenLoss,
    student: LogitsSource,
    teacher: LogitsSource | None = None,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    value_and_grad: ValueAndGrad | None = None,
    parameters: Sequence[Tensor] = (),
    chunked: Chunked = "auto",
    row_group: dist.ProcessGroup | None = None,
) -> Loss:
    """Sum ``per_token_loss`` over the valid positions.

    Args:
        per_token_loss: ``(n, V), (n, V), (n,) -> (n,)``, or a pair of that and a dict of further
            ``(n,)`` values to sum for the log. Each row must be independent of the others, as rows
            are evaluated in blocks.
        student: source of ``(..., V)``.
        teacher: source of ``(..., V)`` on the same positions, or None.
        labels: aligned labels ``(...)``, or None.
        mask: boolean ``(...)``, True where a position is valid; None if all are.
        weights: weight of each position ``(...)``, of any sign, without a gradient; None for 1.
        value_and_grad: ``(n, V), (n, V), (n,) -> (n,), (n, V)``, a faster way to the values of
            ``per_token_loss`` and their gradients, or None.
        parameters: trainable tensors that ``per_token_loss`` reads.
        chunked: ``"auto"`` computes large logits in chunks and small ones at once; `Chunking` sets
            the sizes.
        row_group: ranks that have the same student, teacher, labels and mask, and call this
            together. Where the student is hidden states and a head, each of them evaluates a share
            of the rows; the result, and the gradients, are those of all rows on every rank. None
            for a process that evaluates all rows itself, with the same result. With a group,
            ``per_token_loss`` must draw no random numbers: each rank would draw others, and its
            dropout would differ from then on, which is not detected.

    Returns:
        The sum and the number of valid positions; a sum of 0 with a graph where there is none.

    Raises:
        ValueError: shapes that do not match, or chunks that are required but impossible.
        RuntimeError: a second backward pass through a sum that was evaluated in chunks.

    Example:
        >>> from kdlight.sources import Dense
        >>> squares = lambda student, teacher, labels: (student - teacher).square().sum(-1)
        >>> student, teacher = Dense(torch.zeros(3, 2)), Dense(torch.ones(3, 2))
        >>> token_sum(squares, student, teacher, mask=torch.tensor([True, False, True]))[:2]
        (tensor(4.), tensor(2))
    """
    rule = TokenRule(per_token_loss, value_and_grad, tuple(parameters))
    work = select_valid(rule, student, teacher, labels, mask, weights)
    total, parts = _evaluate(work, _sum, chunked, row_group, adds_up=True)
    return Loss(total, torch.full((), work.rows, device=total.device), parts)


def token_values(
    per_token_loss: PerTokenLoss,
    student: LogitsSource,
    teacher: LogitsSource | None = None,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    value_and_grad: ValueAndGrad | None = None,
    parameters: Sequence[Tensor] = (),
    chunked: Chunked = "auto",
    row_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Return ``per_token_loss`` of the valid positions, in their order, ``(n,)`` with a graph.

    This is for losses that are no sum over tokens, such as a function of the log-probability of a
    sequence. In chunks it computes the products with the heads twice: the weights of the values are
    known only in the backward pass, which recomputes the logits. Arguments and errors are those of
    `token_sum`.

    Example:
        >>> from kdlight.sources import Dense
        >>> squares = lambda student, teacher, labels: (student - teacher).square().sum(-1)
        >>> token_values(squares, Dense(torch.zeros(3, 2)), Dense(torch.ones(3, 2)))
        tensor([2., 2., 2.])
    """
    rule = TokenRule(per_token_loss, value_and_grad, tuple(parameters))
    work = select_valid(rule, student, teacher, labels, mask, None)
    return _evaluate(work, _values, chunked, row_group, adds_up=False)[0]


def position_values(
    per_token_loss: PerTokenLoss,
    student: LogitsSource,
    teacher: LogitsSource | None = None,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    fill: float = 0.0,
    chunked: Chunked = "auto",
    row_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Return ``per_token_loss`` at each position, ``(...)`` with a graph; ``fill`` at invalid ones.

    These are `token_values` in their places. Unlike indexing with the mask, it does not make the
    host wait for a GPU once more. Errors are those of `token_values`.

    Args:
        per_token_loss: see `token_sum`, as the arguments that are not named here.
        student: source of ``(..., V)``.
        teacher: source of ``(..., V)`` on the same positions, or None.
        labels: aligned labels ``(...)``, or None.
        mask: boolean ``(...)``, True where a position is valid; None if all are.
        fill: the value at invalid positions.
        chunked: see `token_sum`.
        row_group: see `token_sum`.

    Example:
        >>> from kdlight.sources import Dense
        >>> squares = lambda student, teacher, labels: (student - teacher).square().sum(-1)
        >>> logits, mask = Dense(torch.zeros(3, 2)), torch.tensor([True, False, True])
        >>> position_values(squares, logits, Dense(torch.ones(3, 2)), mask=mask, fill=-1.0)
        tensor([ 2., -1.,  2.])
    """
    work = select_valid(TokenRule(per_token_loss), student, teacher, labels, mask, None)
    values = _evaluate(work, _values, chunked, row_group, adds_up=False)[0]
    positions = student.shape[:-1]
    if work.index is not None:
        everywhere = values.new_full((prod(positions),), fill)
        values = everywhere.index_copy(0, work.index.to(values.device), values)
    return values.view(positions)


def _evaluate(
    work: TokenWork,
    evaluate: Evaluate,
    chunked: Chunked,
    group: dist.ProcessGroup | None,
    *,
    adds_up: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    divided = None if group is None else divide(work, evaluate, chunked, group, adds_up=adds_up)
    if divided is not None:
        return divided_rows(divided)
    chunking, _ = plan(work.student, work.teacher, work.rows, chunked)
    return evaluate(replace(work, chunking=chunking))


def _sum(work: TokenWork) -> tuple[Tensor, dict[str, Tensor]]:
    if work.chunking is not None:
        return chunked_sum(work)
    values, extras = _dense_values(work)
    parts = {name: value.detach().sum() for name, value in extras.items()}
    return work.weighted_sum(values), parts


def _values(work: TokenWork) -> tuple[Tensor, dict[str, Tensor]]:
    return (_dense_values(work)[0] if work.chunking is None else chunked_values(work)), {}


def _dense_values(work: TokenWork) -> tuple[Tensor, dict[str, Tensor]]:
    """Evaluate the rule on all logits at once."""
    student = work.student.select(work.index).logits()
    teacher = None
    if work.teacher is not None:
        teacher = widen(work.teacher.select(work.index).given_student(student))
    return split_values(work.rule.per_token_loss(widen(student), teacher, work.labels))


def select_valid(
    rule: TokenRule,
    student: LogitsSource,
    teacher: LogitsSource | None,
    labels: Tensor | None,
    mask: Tensor | None,
    weights: Tensor | None,
    rows: int | None = None,
) -> TokenWork:
    """Return the work on the valid rows; the sizes of chunks are chosen later.

    Where the number of valid rows is known, the host does not wait for the device to count them.
    """
    positions = student.shape[:-1]
    for name, shape in (
        ("teacher", None if teacher is None else teacher.shape[:-1]),
        ("labels", None if labels is None else labels.shape),
        ("mask", None if mask is None else mask.shape),
        ("weights", None if weights is None else weights.shape),
    ):
        if shape is not None and shape != positions:
            raise ValueError(
                f"{name} has positions of shape {tuple(shape)}, the student has"
                f" {tuple(positions)}; align them before the loss (shift and crop the batch once)"
            )
    check_mask("mask", mask)
    index = None if mask is None else _valid_index(mask.flatten(), rows)
    rows = prod(positions) if index is None else len(index)
    return TokenWork(
        rule=rule,
        student=student,
        teacher=teacher,
        labels=_select(labels, index),
        weights=None if weights is None else _select(weights.detach(), index),
        index=None if index is not None and rows == prod(positions) else index,
        rows=rows,
        chunking=None,
    )


def _valid_index(mask: Tensor, rows: int | None) -> Tensor:
    if rows is None or can_read(mask):
        return mask.nonzero().squeeze(-1)
    # a stable sort has the valid ones first
    return (mask == 0).to(torch.uint8).argsort(stable=True)[:rows]


def _select(values: Tensor | None, index: Tensor | None) -> Tensor | None:
    if values is None:
        return None
    return values.flatten() if index is None else values.flatten().index_select(0, index)
