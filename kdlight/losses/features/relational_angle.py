"""Relational distillation by angles: the shape of all triangles that the samples form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import smooth_l1_loss

from kdlight.losses import forward_mode
from kdlight.losses.features.inner_products import inner_products
from kdlight.losses.features.inputs import check_rows, feature_pair
from kdlight.losses.features.normalization import inverse_norms, scaled, shifted_to_mean

IN_CACHE, ENTRIES = 2**18, 2**24
"""Limits on the entries of vertices x samples x width, and of vertices x samples x samples: on a
CPU, where a block should stay in the cache, and elsewhere, where few large steps are faster."""


def relational_angle(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber loss between the cosines of the angles of triplets, (B, D), (B, D') -> ().

    .. math:: \frac1{B^3} \sum_{i, j, k} h(\psi^s_{ijk} - \psi^t_{ijk}), \qquad
              \psi_{ijk} = \langle e_{ij}, e_{kj} \rangle, \quad
              e_{ij} = \frac{x_i - x_j}{\| x_i - x_j \|_2}

    where :math:`h(x) = x^2 / 2` for :math:`|x| < 1` and :math:`|x| - 1 / 2` elsewhere. As in the
    authors' code the mean is over all :math:`B^3` triplets, also those that name a sample twice,
    and :math:`e_{ij}` is 0 between equal rows, with a gradient of 0. The widths may differ, so no
    projection is needed. The value does not depend on the scale of either side, nor on a shift or
    an orthogonal transform of its features.

    The angles are computed a few vertices j at a time, and again in the backward pass: time grows
    with :math:`B^3 D`, memory only with :math:`B (B + D)`.

    Args:
        student: Features of the student, one row a sample.
        teacher: Features of the teacher for the same samples.

    Returns:
        The loss, in float32 or wider; 0, with a graph, if there are fewer than two samples.

    Raises:
        ValueError: If the numbers of samples differ, or a side is not (B, D).
        TypeError: If the features are not floating point.

    Park, Kim, Lu, Cho, Relational Knowledge Distillation, 2019, section 3.2.2.

    >>> student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> relational_angle(student, torch.tensor([[0.0], [1.0], [2.0]]))
    tensor(0.1296)
    """
    student, teacher = feature_pair(student, teacher)
    check_rows(student, teacher)
    student, teacher = (scaled(shifted_to_mean(rows), (0, 1)) for rows in (student, teacher))
    return forward_mode.apply(_AngleLoss, student, teacher)


class _AngleLoss(Function):
    """Sum over blocks of vertices, without anything kept for the backward pass but the rows."""

    generate_vmap_rule = True  # per-batch gradients with torch.func

    @staticmethod
    def forward(student: Tensor, teacher: Tensor) -> Tensor:
        total = student.new_zeros(())
        for vertices in _blocks(student, teacher):
            ours, theirs = (_cosines(x, vertices) for x in (student, teacher))
            total = total + smooth_l1_loss(ours, theirs, reduction="sum")
        return total / max(len(student) ** 3, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        forward_mode.save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        student, teacher = ctx.saved_tensors
        of_student, of_teacher = ctx.needs_input_grad
        return (
            grad * _slopes(student, teacher) if of_student else None,
            grad * _slopes(teacher, student) if of_teacher else None,
        )

    @staticmethod
    def derivative(ctx: Any, along_student: Tensor | None, along_teacher: Tensor | None) -> Tensor:
        student, teacher = ctx.saved_tensors
        pairs = ((student, teacher, along_student), (teacher, student, along_teacher))
        moved = [(_slopes(x, y), tangent) for x, y, tangent in pairs if tangent is not None]
        return forward_mode.along(*moved).sum()


def _blocks(student: Tensor, teacher: Tensor) -> Iterator[slice]:
    count = len(student)
    widest = max(count, student.shape[-1], teacher.shape[-1])
    small = student.device.type == "cpu" and not torch.compiler.is_compiling()  # unrolls all blocks
    size = max(1, (IN_CACHE if small else ENTRIES) // max(1, count * widest))
    return (slice(start, start + size) for start in range(0, count, size))


def _directions(rows: Tensor, vertices: slice) -> tuple[Tensor, Tensor]:
    """Unit vectors from vertices to all rows, and 1 / lengths, (B, D) -> (v, B, D), (v, B, 1)."""
    differences = rows - rows[vertices].unsqueeze(1)
    inverse = inverse_norms(differences)
    return differences * inverse, inverse


def _cosines(rows: Tensor, vertices: slice) -> Tensor:
    return inner_products(_directions(rows, vertices)[0])


def _slopes(rows: Tensor, others: Tensor) -> Tensor:
    """Gradient of the loss in the rows of one side, (B, D), (B, D') -> (B, D)."""
    total, at_vertices = torch.zeros_like(rows), [rows[:0]]
    for vertices in _blocks(rows, others):
        directions, inverse = _directions(rows, vertices)
        gap = inner_products(directions) - _cosines(others, vertices)
        with torch.autocast(rows.device.type, enabled=False):
            slopes = 2 * gap.clamp(-1, 1) @ directions
        # across the direction only: its length is always 1
        slopes = (slopes - directions * (slopes * directions).sum(-1, keepdim=True)) * inverse
        total = total + slopes.sum(0)
        at_vertices.append(slopes.sum(1))
    return (total - torch.cat(at_vertices)) / max(len(rows) ** 3, 1)
