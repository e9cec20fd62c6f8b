"""Laws about the value and the gradient of objectives.

A law is a function of an objective and a `Sample` that yields deviations. Its name states it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.objectives import Loss, Objective
from kdlight.reduce import Chunking
from kdlight.sources import Projected
from kdlight.testing.report import Deviation, apart, holds
from kdlight.testing.sample import Sample

Deviations = Iterator[Deviation]


def gradient(loss: Loss, leaf: Tensor) -> Tensor:
    """Compute the gradient of the total in one leaf."""
    return torch.autograd.grad(loss.total, leaf, retain_graph=True)[0]


def compared(actual: Loss, expected: Loss, *leaves: Tensor) -> Deviations:
    """Compare two losses, by their values and their gradients in ``leaves``."""
    yield apart(actual.total, expected.total, "value")
    gradients = (
        torch.autograd.grad(loss.total, leaves, retain_graph=True) for loss in (actual, expected)
    )
    for one, other in zip(*gradients, strict=True):
        yield apart(one, other, "gradient")


def value_is_one_finite_number_over_all_positions(o: Objective, s: Sample) -> Deviations:
    """The total has the dtype of the logits, and the count is the number of positions."""
    loss = o(s.inputs())
    yield holds(loss.total.shape == loss.count.shape == (), "total and count are scalars")
    yield holds(loss.total.dtype == torch.float64, f"float64 in, {loss.total.dtype} out")
    yield holds(loss.count == s.labels.numel(), f"{loss.count} of {s.labels.numel()} positions")
    yield holds(torch.isfinite(loss.total), "value is finite")
    yield holds(torch.isfinite(gradient(loss, s.student)).all(), "gradient is finite")
    yield holds(not any(p.requires_grad for p in loss.parts.values()), "parts have no graph")


def a_constant_added_to_a_row_of_logits_changes_nothing(o: Objective, s: Sample) -> Deviations:
    """Probabilities depend on differences of logits only."""
    rows = torch.linspace(-9, 9, s.student.shape[1], dtype=torch.float64)[:, None]
    shifted = o(s.inputs(student=s.student + rows, teacher=s.teacher - 2 * rows))
    yield from compared(shifted, o(s.inputs()), s.student)


def the_order_of_the_vocabulary_does_not_matter(o: Objective, s: Sample) -> Deviations:
    """The position of an entry in the vocabulary carries no information."""
    order = torch.randperm(s.student.shape[-1], generator=s.generator)
    permuted = s.inputs(
        student=s.student[..., order],
        teacher=s.teacher[..., order],
        labels=order.argsort()[s.labels],
    )
    yield from compared(o(permuted), o(s.inputs()), s.student)


def columns_at_minus_infinity_on_both_sides_are_outside_the_vocabulary(
    o: Objective, s: Sample
) -> Deviations:
    """For vocabularies that are padded to a round number."""
    outside = torch.full((*s.labels.shape, 2), -torch.inf, dtype=torch.float64)
    wide = torch.cat([s.student, outside], -1)
    padded = o(s.inputs(student=wide, teacher=torch.cat([s.teacher, outside], -1)))
    yield from compared(padded, o(s.inputs()), s.student)
    padding = gradient(padded, wide)[..., s.student.shape[-1] :]
    yield apart(padding, torch.zeros_like(padding), "gradient outside", allowed=0)


def masking_is_removing(o: Objective, s: Sample) -> Deviations:
    """A masked position has the same effect as one that is not there."""
    m = s.mask
    masked = o(s.inputs(labels=s.labels.masked_fill(~m, IGNORE_INDEX), mask=m))
    removed = o(s.inputs(student=s.student[m], teacher=s.teacher[m], labels=s.labels[m]))
    yield holds(masked.count == removed.count == m.sum(), f"{masked.count} of {m.sum()} counted")
    yield from compared(masked, removed, s.student)


def what_stands_at_ignored_positions_does_not_leak(o: Objective, s: Sample) -> Deviations:
    """Neither NaN nor infinity reaches the value or the gradient."""
    clean, out = o(s.inputs(mask=s.mask)), ~s.mask
    for garbage in (torch.nan, torch.inf, -torch.inf):
        dirty = s.student.detach().masked_fill(out[..., None], garbage).requires_grad_()
        loss = o(
            s.inputs(
                student=dirty,
                teacher=s.teacher.masked_fill(out[..., None], garbage),
                labels=s.labels.masked_fill(out, 10**6),
                mask=s.mask,
            )
        )
        yield apart(loss.total, clean.total, f"value next to {garbage}")
        yield apart(
            gradient(loss, dirty), gradient(clean, s.student), f"gradient next to {garbage}"
        )


def no_position_at_all_is_zero_with_a_graph(o: Objective, s: Sample) -> Deviations:
    """For micro-batches that hold only padding."""
    none = torch.zeros_like(s.mask)
    loss = o(s.inputs(labels=torch.full_like(s.labels, IGNORE_INDEX), mask=none))
    yield holds(loss.count == 0, f"{loss.count} positions counted")
    yield apart(loss.mean(), torch.zeros_like(loss.total), "value", allowed=0)
    grad = gradient(loss, s.student)
    yield apart(grad, torch.zeros_like(grad), "gradient", allowed=0)


def rows_add_up_however_the_work_is_split(o: Objective, s: Sample) -> Deviations:
    """The loss of a row does not depend on other rows of a micro-batch, rank or chunk."""
    rows = zip(*(each.flatten(0, 1) for each in (s.student, s.teacher, s.labels)), strict=True)
    alone = [o(s.inputs(student=z[None], teacher=p[None], labels=y[None])) for z, p, y in rows]
    total = torch.stack([loss.total for loss in alone]).sum()
    count = torch.stack([loss.count for loss in alone]).sum()
    yield from compared(Loss(total, count), o(s.inputs()), s.student)


def hidden_states_and_a_head_give_what_their_logits_give(o: Objective, s: Sample) -> Deviations:
    """Both at once and in chunks."""
    hidden = s.randn(*s.labels.shape, 3).requires_grad_()
    head = nn.Linear(3, s.student.shape[-1]).double()
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(s.randn(*weight.shape))
    dense = o(s.inputs(student=head(hidden), mask=s.mask))
    for chunked in (False, Chunking(tokens=3, block=2)):
        lazy = o(s.inputs(student=Projected(hidden, head), mask=s.mask, chunked=chunked))
        yield from compared(lazy, dense, hidden, head.weight)


def zero_at_a_match(o: Objective, s: Sample) -> Deviations:
    """A divergence and its gradient are 0 where student and teacher are equal."""
    loss = o(s.inputs(teacher=s.student.detach()))
    grad = gradient(loss, s.student)
    yield apart(loss.mean(), torch.zeros_like(loss.total), "value", allowed=1e-7)
    yield apart(grad, torch.zeros_like(grad), "gradient", allowed=1e-7)


def never_negative(o: Objective, s: Sample) -> Deviations:
    """For distributions from nearly uniform to nearly one-hot."""
    for scale in (1e-3, 1.0, 30.0):
        student, teacher = s.randn(2, s.labels.numel(), s.student.shape[-1]) * scale
        for z, p, y in zip(student, teacher, s.labels.flatten(), strict=True):
            loss = o(s.inputs(student=z, teacher=p, labels=y))  # a single position, without axes
            yield Deviation(max(0.0, -loss.total.item()), 1e-12, f"logits of size {scale}")


def half_precision_is_widened_first(o: Objective, s: Sample) -> Deviations:
    """Half-precision logits give a float32 loss, with no rounding but that of the logits."""
    for half in (torch.bfloat16, torch.float16):
        low = s.student.detach().to(half).requires_grad_()
        wide = low.detach().double().requires_grad_()
        loss = o(s.inputs(student=low, teacher=s.teacher.to(half)))
        exact = o(s.inputs(student=wide, teacher=s.teacher.to(half).double()))
        yield holds(loss.total.dtype == torch.float32, f"{half} in, {loss.total.dtype} out")
        yield apart(loss.total, exact.total, f"value in {half}", allowed=1e-4)
        grad, exact_grad = gradient(loss, low).double(), gradient(exact, wide)
        rounding = 2 * torch.finfo(half).eps
        # relative to each entry: relative to the largest, double rounding would not show
        deviations = (grad - exact_grad).abs() / (1e-5 / rounding + exact_grad.abs())
        yield Deviation(deviations.max().item(), rounding, f"gradient in {half}")


def gradient_is_the_slope(o: Objective, s: Sample) -> Deviations:
    """The gradient equals central differences along random directions."""
    grad, size = gradient(o(s.inputs()), s.student), 1e-5
    for _ in range(3):
        direction = s.randn(*s.student.shape)
        ahead, behind = (
            o(s.inputs(student=(s.student + step * direction).detach())).total
            for step in (size, -size)
        )
        slope = (ahead - behind) / (2 * size)
        yield apart((grad * direction).sum(), slope, "slope", allowed=1e-6)
