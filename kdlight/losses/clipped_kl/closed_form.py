"""DAC-KL by cumulative mass, with a bucket for all other tokens, in closed form.

Beside the most likely tokens, which are sorted, and the label, all tokens are in the bucket: their
gates are closed, and have one coordinate and so one derivative. So all that these tokens contribute
are three sums. See `kdlight.losses.value_and_grad` for what closed forms support.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.losses.clipped_kl.clipping import Clipped
from kdlight.losses.clipped_kl.compared import Compared
from kdlight.losses.clipped_kl.gates import next_count, wanted_mass
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.likeliest import likeliest
from kdlight.losses.value_and_grad import dot


def clip_and_grad(
    both: Compared, lower: Tensor, upper: Tensor, labels: Tensor | None, **options: Any
) -> tuple[Clipped, Tensor]:
    """Compute what `kdlight.losses.clipped_kl.clipping.clip` does, and the student's gradient.

    That is for ``rule="mass"`` and ``tail="bucket"``. Where the sorted tokens of a row hold too
    little mass, see `kdlight.losses.clipped_kl.gates.wanted_mass`, more are sorted.

    Args:
        both: What both sides have. Its tensors are overwritten.
        lower: Lower threshold of each row, (n,).
        upper: Upper threshold of each row, (n,).
        labels: Labels that are always kept, (n,).
        **options: Those of the function that computes rows whose tokens are enough.

    Returns:
        The results, with graphs to the thresholds alone, and the gradient in the logits, (n, V).
    """
    sorted_p = both.p.gather(-1, both.order)
    wanted = wanted_mass(upper.detach(), options["gate_temperature"])
    missing = wanted - sorted_p.cumsum(-1)[:, -1]
    short = missing > 0
    if both.order.shape[-1] == both.p.shape[-1] or not bool(short.any()):
        return _clip_and_grad(both, lower, upper, labels, **options)
    if bool(short.all()):
        count = next_count(both.order.shape[-1], both.p.shape[-1], missing, sorted_p[:, -1])
        with_more = both._replace(order=likeliest(both.p, count)[1])
        return clip_and_grad(with_more, lower, upper, labels, **options)
    places = [each.nonzero()[:, 0] for each in (~short, short)]
    parts = [
        clip_and_grad(
            Compared(*(x[rows] for x in both)),
            lower[rows],
            upper[rows],
            None if labels is None else labels[rows],
            **options,
        )
        for rows in places
    ]
    back = torch.cat(places).argsort()
    clipped = Clipped(*(torch.cat(x)[back] for x in zip(*(each for each, _ in parts), strict=True)))
    grad = both.q  # overwritten anyway
    for rows, (_, part) in zip(places, parts, strict=True):
        grad[rows] = part
    return clipped, grad


def _clip_and_grad(
    both: Compared,
    lower: Tensor,
    upper: Tensor,
    labels: Tensor | None,
    *,
    include_argmax: bool,
    gate_temperature: float | None,
) -> tuple[Clipped, Tensor]:
    """Compute the same of rows whose sorted tokens are enough.

    With P and Q the masses of the kept tokens, and R = (1 - P) / (1 - Q), the gradient is q - p at
    kept tokens and q (1 - R) at all others.

    Args:
        both: What both sides have.
        lower: Lower threshold of each row.
        upper: Upper threshold of each row.
        labels: Labels that are always kept.
        include_argmax: Always keep the most likely token.
        gate_temperature: Width of the gates of ``gate="ste"``; None for ``gate="hard"``.
    """
    with torch.no_grad():
        rows = _divide(both, lower.unsqueeze(-1), upper.unsqueeze(-1), labels, include_argmax)
        weights = rows.p * rows.kept
        mass, left = weights.sum(-1), (rows.p - weights).sum(-1) + rows.rest_p
        left_q = (rows.q * ~rows.kept).sum(-1) + rows.rest_q
        has_rest = left > 0
        ratio = torch.where(has_rest, left / left_q, 0.0)
        log_ratio = torch.where(has_rest, ratio.log(), 0.0)
        values = (weights * rows.log_ratio).sum(-1) + left * log_ratio
        values = values.masked_fill(mass == 0, torch.nan)  # nothing to compare: not supported
        slopes: list[tuple[Tensor, Tensor]] = []
        if gate_temperature is not None and (lower.requires_grad or upper.requires_grad):
            of_gates = ratio, torch.where(has_rest, log_ratio + 1, 0.0)
            slopes = _slopes(rows, lower, upper, *of_gates, gate_temperature)
        scale = 1 - ratio.unsqueeze(-1)
        of_columns = torch.where(rows.kept, rows.q - rows.p, rows.q * scale)
        grad = rows.others_q.mul_(scale).scatter_add_(-1, rows.order, of_columns)
        results = values, mass
    for threshold, of_threshold in zip((lower, upper), slopes, strict=False):
        zero = threshold - threshold.detach()  # carries the gradient only
        results = results[0] + zero * of_threshold[0], results[1] + zero * of_threshold[1]
    return Clipped(*results, rows.kept.sum(-1).to(grad.dtype), rows.full), grad


class _Rows(NamedTuple):
    """Rows, divided into columns (n, k), a token each, and the rest, all other tokens together.

    Attributes:
        order: Ids of the tokens of the columns: the most likely ones in order, and the label. If it
            is among those, the last column stands for no token, and its numbers are 0.
        p: Probabilities of the teacher, of the columns.
        q: Probabilities of the student, of the columns.
        log_ratio: log p - log q, of the columns.
        kept: Whether a column is kept. The rest is not.
        free: Whether the gate of a column moves with the thresholds.
        middle: Coordinates of the columns, and in the end that of the rest, (n, k + 1).
        others_q: Probabilities of the student with 0 at the columns, (n, V).
        rest_p: Probability of the rest under the teacher, (n,).
        rest_q: Probability of the rest under the student, (n,).
        rest_moving_q: The same without the tokens that are impossible for the teacher, (n,).
        rest_kl: Sum of p (log p - log q) over the rest, (n,).
        full: Forward KL, (n,).
    """

    order: Tensor
    p: Tensor
    q: Tensor
    log_ratio: Tensor
    kept: Tensor
    free: Tensor
    middle: Tensor
    others_q: Tensor
    rest_p: Tensor
    rest_q: Tensor
    rest_moving_q: Tensor
    rest_kl: Tensor
    full: Tensor


def _divide(
    both: Compared, lower: Tensor, upper: Tensor, labels: Tensor | None, include_argmax: bool
) -> _Rows:
    p, q = both.p, both.q
    order = both.order
    ordered = p.gather(-1, order)
    up_to = ordered.cumsum(-1)
    before, middle = up_to - ordered, up_to - ordered / 2
    kept = ((before < upper) | (upper >= 1)) & (before + ordered > lower)
    forced = torch.zeros_like(kept)
    if include_argmax:
        forced[:, 0] = True
    active = torch.ones_like(kept)
    if labels is not None:
        labels = labels.unsqueeze(-1)
        is_label = order == labels
        forced |= is_label
        outside = (labels != IGNORE_INDEX) & ~is_label.any(-1, keepdim=True)
        order = torch.cat([order, torch.where(outside, labels, order[:, :1])], -1)
        kept, forced, active = (torch.cat([x, outside], -1) for x in (kept, forced, active))
        middle = torch.cat([middle, middle[:, :1]], -1)  # its gate does not move
    middle = torch.cat([middle, (up_to[:, -1:] + 1) / 2], -1)
    log_ratio, shift = both.teacher.sub_(both.student), both.log_z_q - both.log_z_p
    full = dot(p, log_ratio) + shift
    of_columns = log_ratio.gather(-1, order) + shift.unsqueeze(-1)
    p_columns, q_columns = p.gather(-1, order) * active, q.gather(-1, order) * active
    possible = p_columns != 0
    impossible = p == 0 if p.numel() and bool(p.amin() == 0) else None
    p.scatter_(-1, order, 0.0)
    q.scatter_(-1, order, 0.0)
    rest_p, rest_q = p.sum(-1), q.sum(-1)
    return _Rows(
        order=order,
        p=p_columns,
        q=q_columns,
        log_ratio=of_columns,
        kept=(kept | forced) & possible,
        free=~forced & possible,
        middle=middle,
        others_q=q,
        rest_p=rest_p,
        rest_q=rest_q,
        rest_moving_q=rest_q if impossible is None else q.masked_fill(impossible, 0.0).sum(-1),
        rest_kl=dot(p, log_ratio) + shift * rest_p,
        full=full,
    )


def _slopes(
    rows: _Rows, lower: Tensor, upper: Tensor, ratio: Tensor, offset: Tensor, width: float
) -> list[tuple[Tensor, Tensor]]:
    """Gradients of values and masses in the lower and in the upper threshold, (n,) each.

    A gate has a derivative of p (log p - log q - offset) + ratio q in the loss, see
    `kdlight.losses.clipped_kl.gated_kl.gate_grad`, and of p in the mass.
    """
    above = ((rows.middle - lower.unsqueeze(-1)) / width).sigmoid()
    below = ((upper.unsqueeze(-1) - rows.middle) / width).sigmoid()
    scale = above * below / width
    scale[:, :-1] *= rows.free
    of_columns = (rows.log_ratio - offset.unsqueeze(-1)) * rows.p + ratio.unsqueeze(-1) * rows.q
    of_rest = rows.rest_kl - offset * rows.rest_p + ratio * rows.rest_moving_q
    of_loss = torch.cat([of_columns, of_rest.unsqueeze(-1)], -1)
    of_mass = torch.cat([rows.p, rows.rest_p.unsqueeze(-1)], -1)
    moves = (above - 1) * scale, (1 - below) * scale
    return [((of_loss * move).sum(-1), (of_mass * move).sum(-1)) for move in moves]
