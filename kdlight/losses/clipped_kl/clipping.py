"""Clipping: the loss of DAC-KL, and the statistics that come with it."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

from kdlight.checks import check_at_least, check_choice, check_positive, check_range
from kdlight.losses.clipped_kl.clamped_kl import clamped_kl
from kdlight.losses.clipped_kl.gated_kl import TAILS, Tail, gate_grad, gated_kl
from kdlight.losses.clipped_kl.gates import GATES, RULES, Gate, clip_gates
from kdlight.losses.kl import kl
from kdlight.losses.log_space import log_probs, tempered_pair

Rule: TypeAlias = Literal["mass", "quantile", "value", "clamp"]


class Clipped(NamedTuple):
    """The results of clipping, (...) each.

    Attributes:
        values: The loss, differentiable in the student and in the thresholds.
        mass: The teacher's probability of the kept tokens, differentiable in the thresholds.
        kept: The number of kept tokens.
        full: Forward KL over all tokens, without a gradient.
    """

    values: Tensor
    mass: Tensor
    kept: Tensor
    full: Tensor


def clip(
    student: Tensor,
    teacher: Tensor,
    *,
    lower: float | Tensor,
    upper: float | Tensor,
    rule: Rule,
    tail: Tail,
    gate: Gate,
    labels: Tensor | None,
    include_argmax: bool,
    gate_temperature: float,
    residual: float,
    temperature: float | Tensor,
    head: int | None,
) -> Clipped:
    """Compute `kdlight.losses.dac_kl` and its statistics; see there for arguments and errors."""
    check_clipping(
        rule=rule, tail=tail, gate=gate, residual=residual, width=gate_temperature, head=head
    )
    if isinstance(lower, float) and isinstance(upper, float):
        check_thresholds(lower, upper)
    student, teacher = tempered_pair(student, teacher.detach(), temperature)
    log_q, log_p = log_probs(student), log_probs(teacher)
    p = log_p.exp()
    full = kl(log_p, log_q.detach(), p=p)
    low, high = (_per_token(name, x, log_p) for name, x in (("lower", lower), ("upper", upper)))
    if rule == "clamp":
        values, unchanged = clamped_kl(log_p, log_q, low, high)
        return Clipped(values, (p * unchanged).sum(-1), unchanged.sum(-1), full)
    gates = clip_gates(
        p,
        low.detach(),
        high.detach(),
        rule=rule,
        gate=gate,
        gate_temperature=gate_temperature,
        labels=labels,
        include_argmax=include_argmax,
        head=head,
    )
    values = gated_kl(p, log_p, log_q, gates.gate, tail=tail, residual=residual)
    mass, kept = (p * gates.gate).sum(-1), gates.gate.sum(-1)
    if gates.grads is not None and (low.requires_grad or high.requires_grad):
        grad = gate_grad(p, log_p, log_q, gates.gate, tail=tail, residual=residual)
        for threshold, threshold_grad in zip((low, high), gates.grads, strict=True):
            zero = (threshold - threshold.detach()).squeeze(-1)  # carries the gradient only
            values = values + zero * (grad * threshold_grad).sum(-1)
            mass = mass + zero * (p * threshold_grad).sum(-1)
    return Clipped(values, mass, kept, full)


def _per_token(name: str, threshold: float | Tensor, like: Tensor) -> Tensor:
    """One threshold per token, (..., 1)."""
    if not isinstance(threshold, Tensor):
        check_range(name, threshold, 0.0, 1.0)
        threshold = like.new_full((), threshold)
    return threshold.to(like).expand(like.shape[:-1]).unsqueeze(-1)


def check_thresholds(lower: float, upper: float) -> None:
    """Raise an error unless ``0 <= lower < upper <= 1``.

    Raises:
        ValueError: If not; the message names the threshold and the value.
    """
    check_range("lower", lower, 0.0, 1.0)
    check_range("upper", upper, 0.0, 1.0)
    if not lower < upper:
        raise ValueError(f"lower must be below upper, got lower={lower} and upper={upper}")


def check_clipping(
    *, rule: str, tail: str, gate: str, residual: float, width: float, head: int | None
) -> None:
    """Raise an error for hyper-parameters of `kdlight.losses.dac_kl` that are out of range.

    Raises:
        ValueError: If one is; the message names it and the value.
    """
    check_choice("rule", rule, (*RULES, "clamp"))
    check_choice("tail", tail, TAILS)
    check_choice("gate", gate, GATES)
    check_positive("gate_temperature", width)
    check_range("residual", residual, 0.0, 1.0)
    if head is not None:
        check_at_least("head", head, 1)
    if residual and tail != "residual":
        raise ValueError(f"residual={residual} needs tail='residual', got tail={tail!r}")
    if gate == "ste" and tail == "renorm_teacher" and rule != "clamp":
        raise ValueError(
            "tail='renorm_teacher' has a gradient of -inf at closed gates, so gate='ste' cannot"
            " train with it; use gate='soft', or tail='residual' with residual=1"
        )
