"""DAC-KL: KL to the part of the teacher's distribution between two thresholds."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from kdlight.losses.checks import check_range
from kdlight.losses.clamped import clamped_kl
from kdlight.losses.clipping import GATES, RULES, Gate, clip_gates
from kdlight.losses.gated_kl import TAILS, Tail, gate_slopes, gated_kl
from kdlight.losses.kl import kl
from kdlight.losses.log_space import log_probs, tempered_pair

Rule: TypeAlias = Literal["mass", "quantile", "value", "clamp"]


class Clipped(NamedTuple):
    """What comes of clipping, each (...).

    Attributes:
        values: the loss, with slopes in the student and the thresholds.
        mass: the teacher's probability of what is kept, with slopes in the thresholds.
        kept: the number of tokens kept.
        full: forward KL over all tokens, without a slope.
    """

    values: Tensor
    mass: Tensor
    kept: Tensor
    full: Tensor


def dac_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    lower: float | Tensor,
    upper: float | Tensor,
    rule: Rule = "mass",
    tail: Tail = "bucket",
    gate: Gate = "hard",
    labels: Tensor | None = None,
    include_argmax: bool = True,
    gate_temperature: float = 0.05,
    residual: float = 0.0,
    temperature: float | Tensor = 1.0,
    head: int | None = None,
) -> Tensor:
    r"""Distribution-adaptive clipping KL with given thresholds, (..., V), (..., V) -> (...).

    .. math:: \sum_{v \in S} p_v \log \frac{p_v}{q_v} + (1 - P) \log \frac{1 - P}{1 - Q},
              \qquad P = \sum_{v \in S} p_v, \quad Q = \sum_{v \in S} q_v

    Compares student and teacher where the teacher has something to say. Known of the paper, in part
    at second hand, is that two thresholds, "quantiles", clip the teacher's distribution and are
    learned through this loss; rule, tail and gate are not. The defaults here are chosen so that the
    loss is a divergence whatever is kept: at least 0, at most the KL over all tokens, and 0 at a
    match.

    The label and the likeliest token are always kept. The thresholds get a gradient, if they want
    one, through the gates alone, the student through q alone, and the teacher none.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        lower: Lower threshold, in [0, 1], a number or one each token.
        upper: Upper threshold, likewise, above the lower one.
        rule: What the thresholds cut: ``"mass"`` counted from the likeliest token down, so that the
            upper one is that of nucleus sampling; ``"quantile"`` of the probabilities, the most
            literal reading; ``"value"``, the probabilities themselves; ``"clamp"``, which keeps all
            tokens and clips their probabilities (``tail``, ``gate`` and ``labels`` say nothing
            then).
        tail: What becomes of the rest: one outcome, a ``"bucket"``; nothing, and both sides
            (``"renorm"``) or the teacher alone (``"renorm_teacher"``) are made to sum to 1 again;
            nothing at all (``"none"``), which is no divergence and can be negative; or
            ``"residual"``, between the bucket and the teacher renormalised.
        gate: ``"hard"``, which thresholds cannot move; ``"soft"``, a product of two sigmoids; or
            ``"ste"``, straight through: hard forward, the slopes of the soft one backward.
        labels: Aligned labels to be kept, -100 for none, (...).
        include_argmax: Keep the teacher's likeliest token whatever the thresholds say. Without it
            nothing may be left to compare.
        gate_temperature: Width of the soft gate.
        residual: With ``tail="residual"``, how much of the rest the target moves into what is
            kept: 0 is ``"bucket"``, 1 ``"renorm_teacher"`` with a hard gate.
        temperature: Divides both logits. There is no factor T^2 inside.
        head: With ``rule="mass"``, look at so many of the likeliest tokens before all are sorted.

    Raises:
        ValueError: If the shapes differ, a number is out of its range, a choice is none of those
            listed, or ``"ste"`` meets ``"renorm_teacher"``, whose slope at a closed gate is -inf.
        TypeError: If the logits are not floating point.

    Multi-Granularity Semantic Revision for Large Language Model Distillation, 2024, eq. (6) (the
    thresholds); the residual family follows ReTaCo, 2026.

    >>> student, teacher = torch.zeros(1, 4), torch.tensor([[3.0, 1.0, 0.0, 0.0]])
    >>> dac_kl(student, teacher, lower=0.0, upper=0.9)
    tensor([0.7142])
    """
    return clip(
        student,
        teacher,
        lower=lower,
        upper=upper,
        rule=rule,
        tail=tail,
        gate=gate,
        labels=labels,
        include_argmax=include_argmax,
        gate_temperature=gate_temperature,
        residual=residual,
        temperature=temperature,
        head=head,
    ).values


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
    """`dac_kl`, and what else it finds out on its way."""
    check_clipping(rule=rule, tail=tail, gate=gate, residual=residual, width=gate_temperature)
    if isinstance(lower, float) and isinstance(upper, float) and lower >= upper:
        raise ValueError(f"lower must be below upper, got lower={lower} and upper={upper}")
    student, teacher = tempered_pair(student, teacher.detach(), temperature)
    log_q, log_p = log_probs(student), log_probs(teacher)
    p = log_p.exp()
    full = kl(log_p, log_q.detach(), p=p)
    low, high = (_each(name, x, log_p) for name, x in (("lower", lower), ("upper", upper)))
    if rule == "clamp":
        values, inside = clamped_kl(log_p, log_q, low, high)
        return Clipped(values, (p * inside).sum(-1), inside.sum(-1), full)
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
    if gates.slopes is not None and (low.requires_grad or high.requires_grad):
        slopes = gate_slopes(p, log_p, log_q, gates.gate, tail=tail, residual=residual)
        for threshold, moved in zip((low, high), gates.slopes, strict=True):
            still = (threshold - threshold.detach()).squeeze(-1)
            values = values + still * (slopes * moved).sum(-1)
            mass = mass + still * (p * moved).sum(-1)
    return Clipped(values, mass, kept, full)


def _each(name: str, threshold: float | Tensor, like: Tensor) -> Tensor:
    """A threshold a token, (..., 1)."""
    if not isinstance(threshold, Tensor):
        check_range(name, threshold, 0.0, 1.0)
        threshold = torch.tensor(threshold, dtype=like.dtype, device=like.device)
    return threshold.to(like).expand(like.shape[:-1]).unsqueeze(-1)


def check_clipping(*, rule: str, tail: str, gate: str, residual: float, width: float) -> None:
    """Refuse hyper-parameters out of range.

    Raises:
        ValueError: naming the argument and the value.
    """
    for name, value, known in (
        ("rule", rule, (*RULES, "clamp")),
        ("tail", tail, TAILS),
        ("gate", gate, GATES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    if not 0 < width < torch.inf:
        raise ValueError(f"gate_temperature must be above 0 and finite, got {width}")
    check_range("residual", residual, 0.0, 1.0)
    if residual and tail != "residual":
        raise ValueError(f"residual={residual} needs tail='residual', got tail={tail!r}")
    if gate == "ste" and tail == "renorm_teacher" and rule != "clamp":
        raise ValueError(
            "tail='renorm_teacher' has a slope of -inf where a gate is closed, so that gate='ste'"
            " learns nothing; use gate='soft', or tail='residual' with residual=1"
        )
