"""What holds for every objective: its value and gradient, whatever the logits come in.

A law is a generator of deviations, from a function of an objective and a `Sample`. Its name is
what it says.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdlight.sources import Projected
from kdlight.objectives import Loss, Objective
from kdlight.reduce import Chunking
from kdlight.testing.report import Deviation, apart, holds
from kdlight.testing.sample import Sample

Deviations = Iterator[Deviation]


def gradient(loss: Loss, leaf: Tensor) -> Tensor:
    """Of the sum, by one leaf."""
    return torch.autograd.grad(loss.total, leaf, retain_graph=True)[0]


def compared(actual: Loss, expected: Loss, *leaves: Tensor) -> Deviations:
    """Two losses, by value and by gradient."""
    yield apart(actual.total, expected.total, "value")
    slopes = (
        torch.autograd.grad(loss.total, leaves, retain_graph=True) for loss in (actual, expected)
    )
    for one, other in zip(*slopes, strict=True):
        yield apart(one, other, "gradient")


def value_is_one_finite_number_over_all_positions(o: Objective, s: Sample) -> Deviations:
    """A sum in the dtype of the logits, and the number of positions."""
    loss = o(s.step())
    yield holds(loss.total.shape == loss.count.shape == (), "total and count are scalars")
    yield holds(loss.total.dtype == torch.float64, f"float64 in, {loss.total.dtype} out")
    yield holds(loss.count == s.labels.numel(), f"{loss.count} of {s.labels.numel()} positions")
    yield holds(torch.isfinite(loss.total), "value is finite")
    yield holds(torch.isfinite(gradient(loss, s.student)).all(), "gradient is finite")
    yield holds(not any(p.requires_grad for p in loss.parts.values()), "parts have no graph")


def a_constant_added_to_a_row_of_logits_changes_nothing(o: Objective, s: Sample) -> Deviations:
    """Logits are what probabilities are made of: only differences count."""
    rows = torch.linspace(-9, 9, s.student.shape[1], dtype=torch.float64)[:, None]
    shifted = o(s.step(student=s.student + rows, teacher=s.teacher - 2 * rows))
    yield from compared(shifted, o(s.step()), s.student)


def the_order_of_the_vocabulary_does_not_matter(o: Objective, s: Sample) -> Deviations:
    """Nothing is said about an entry by its place."""
    order = torch.randperm(s.student.shape[-1], generator=s.generator)
    permuted = s.step(
        student=s.student[..., order],
        teacher=s.teacher[..., order],
        labels=order.argsort()[s.labels],
    )
    yield from compared(o(permuted), o(s.step()), s.student)


def columns_at_minus_infinity_on_both_sides_are_outside_the_vocabulary(
    o: Objective, s: Sample
) -> Deviations:
    """As of a vocabulary padded to a rounder number."""
    outside = torch.full((*s.labels.shape, 2), -torch.inf, dtype=torch.float64)
    wide = torch.cat([s.student, outside], -1)
    padded = o(s.step(student=wide, teacher=torch.cat([s.teacher, outside], -1)))
    yield from compared(padded, o(s.step()), s.student)
    there = gradient(padded, wide)[..., s.student.shape[-1] :]
    yield apart(there, torch.zeros_like(there), "gradient outside", allowed=0)


def masking_is_removing(o: Objective, s: Sample) -> Deviations:
    """A position that does not count may as well not be there."""
    m = s.mask
    masked = o(s.step(labels=s.labels.masked_fill(~m, -100), mask=m))
    removed = o(s.step(student=s.student[m], teacher=s.teacher[m], labels=s.labels[m]))
    yield holds(masked.count == removed.count == m.sum(), f"{masked.count} of {m.sum()} counted")
    yield from compared(masked, removed, s.student)


def what_stands_at_ignored_positions_does_not_leak(o: Objective, s: Sample) -> Deviations:
    """Not even NaN, and not into the gradient."""
    clean, out = o(s.step(mask=s.mask)), ~s.mask
    for rubbish in (torch.nan, torch.inf, -torch.inf):
        dirty = s.student.detach().masked_fill(out[..., None], rubbish).requires_grad_()
        loss = o(
            s.step(
                student=dirty,
                teacher=s.teacher.masked_fill(out[..., None], rubbish),
                labels=s.labels.masked_fill(out, 10**6),
                mask=s.mask,
            )
        )
        yield apart(loss.total, clean.total, f"value beside {rubbish}")
        yield apart(gradient(loss, dirty), gradient(clean, s.student), f"gradient beside {rubbish}")


def no_position_at_all_is_zero_with_a_graph(o: Objective, s: Sample) -> Deviations:
    """As in a micro-batch of padding alone."""
    nothing = torch.zeros_like(s.mask)
    loss = o(s.step(labels=torch.full_like(s.labels, -100), mask=nothing))
    yield holds(loss.count == 0, f"{loss.count} positions counted")
    yield apart(loss.mean(), torch.zeros_like(loss.total), "value", allowed=0)
    slope = gradient(loss, s.student)
    yield apart(slope, torch.zeros_like(slope), "gradient", allowed=0)


def rows_add_up_however_the_work_is_split(o: Objective, s: Sample) -> Deviations:
    """Micro-batches, ranks and chunks: a row may not know of the others."""
    rows = zip(*(each.flatten(0, 1) for each in (s.student, s.teacher, s.labels)), strict=True)
    alone = [o(s.step(student=z[None], teacher=p[None], labels=y[None])) for z, p, y in rows]
    total = torch.stack([loss.total for loss in alone]).sum()
    count = torch.stack([loss.count for loss in alone]).sum()
    yield from compared(Loss(total, count), o(s.step()), s.student)


def hidden_states_and_a_head_give_what_their_logits_give(o: Objective, s: Sample) -> Deviations:
    """All at once, and in chunks."""
    hidden = s.randn(*s.labels.shape, 3).requires_grad_()
    head = nn.Linear(3, s.student.shape[-1]).double()
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(s.randn(*weight.shape))
    dense = o(s.step(student=head(hidden), mask=s.mask))
    for chunked in (False, Chunking(tokens=3, block=2)):
        lazy = o(s.step(student=Projected(hidden, head), mask=s.mask, chunked=chunked))
        yield from compared(lazy, dense, hidden, head.weight)


def zero_at_a_match(o: Objective, s: Sample) -> Deviations:
    """What is called a divergence is none, and rests, where both sides agree."""
    loss = o(s.step(teacher=s.student.detach()))
    slope = gradient(loss, s.student)
    yield apart(loss.mean(), torch.zeros_like(loss.total), "value", allowed=1e-7)
    yield apart(slope, torch.zeros_like(slope), "gradient", allowed=1e-7)


def never_negative(o: Objective, s: Sample) -> Deviations:
    """From nearly uniform to nearly certain."""
    for scale in (1e-3, 1.0, 30.0):
        student, teacher = s.randn(2, s.labels.numel(), s.student.shape[-1]) * scale
        for z, p, y in zip(student, teacher, s.labels.flatten(), strict=True):
            loss = o(s.step(student=z, teacher=p, labels=y))  # a position of its own
            yield Deviation(max(0.0, -loss.total.item()), 1e-12, f"logits of size {scale}")


def half_precision_is_widened_first(o: Objective, s: Sample) -> Deviations:
    """Halves in, float32 out, and no more lost than the logits lost already."""
    for half in (torch.bfloat16, torch.float16):
        low = s.student.detach().to(half).requires_grad_()
        wide = low.detach().double().requires_grad_()
        loss = o(s.step(student=low, teacher=s.teacher.to(half)))
        exact = o(s.step(student=wide, teacher=s.teacher.to(half).double()))
        yield holds(loss.total.dtype == torch.float32, f"{half} in, {loss.total.dtype} out")
        yield apart(loss.total, exact.total, f"value in {half}", allowed=1e-4)
        slope, rounding = gradient(loss, low).double(), 2 * torch.finfo(half).eps
        # entry by entry: the largest says nothing of what was rounded twice
        found = (slope - gradient(exact, wide)).abs() / (
            1e-5 / rounding + gradient(exact, wide).abs()
        )
        yield Deviation(found.max().item(), rounding, f"gradient in {half}")


def gradient_is_the_slope(o: Objective, s: Sample) -> Deviations:
    """Along some directions, by differences."""
    slope, step = gradient(o(s.step()), s.student), 1e-5
    for _ in range(3):
        way = s.randn(*s.student.shape)
        ahead, behind = (
            o(s.step(student=(s.student + sign * way).detach())).total for sign in (step, -step)
        )
        yield apart((slope * way).sum(), (ahead - behind) / (2 * step), "slope", allowed=1e-6)
