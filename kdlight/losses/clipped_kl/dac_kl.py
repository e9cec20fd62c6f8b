"""DAC-KL: KL to the part of the teacher's distribution between two thresholds."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.clipped_kl.clipping import Rule, clip
from kdlight.losses.clipped_kl.gated_kl import Tail
from kdlight.losses.clipped_kl.gates import Gate


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

    Compares student and teacher on the tokens S between the thresholds, where most of the teacher's
    information is. Of the paper it is known, in part at second hand, that two thresholds,
    "quantiles", clip the teacher's distribution and are learned through this loss. Its rule, tail
    and gate are not known. The defaults here are chosen so that the loss is a divergence for any
    set of kept tokens: at least 0, at most the KL over all tokens, and 0 at a match.

    The label and the most likely token are always kept. Thresholds that require a gradient get one
    through the gates alone, the student through q alone, and the teacher none.

    Args:
        student: Logits of q.
        teacher: Logits of p, of the same shape; -inf on both sides is outside the vocabulary.
        lower: Lower threshold, in [0, 1]: a number, or a tensor with one per token.
        upper: Upper threshold, likewise, above the lower one.
        rule: What the thresholds apply to: ``"mass"``, the cumulative mass from the most likely
            token down, so that the upper threshold is that of nucleus sampling; ``"quantile"`` of
            the probabilities, the most literal reading; ``"value"``, the probabilities themselves;
            ``"clamp"``, which keeps all tokens and clamps their probabilities (``tail``, ``gate``
            and ``labels`` have no effect then).
        tail: How the other tokens count: as one outcome (``"bucket"``); not at all, with both sides
            (``"renorm"``) or the teacher alone (``"renorm_teacher"``) renormalized; not at all,
            without renormalization (``"none"``), which is no divergence and can be negative; or
            ``"residual"``, between the bucket and the renormalized teacher.
        gate: ``"hard"``, without a gradient in the thresholds; ``"soft"``, a product of two
            sigmoids; or ``"ste"``, straight through: hard in the forward pass, with the gradient of
            the soft gate in the backward pass.
        labels: Aligned labels that are always kept, -100 for none, (...).
        include_argmax: Keep the teacher's most likely token for any thresholds. Without it there
            may be no token left to compare.
        gate_temperature: Width of the soft gate.
        residual: With ``tail="residual"``, the fraction of the remaining mass that the target moves
            to the kept tokens: 0 is ``"bucket"``, 1 is ``"renorm_teacher"`` with a hard gate.
        temperature: Divides both logits. The factor T^2 is not included.
        head: With ``rule="mass"``, sort only so many of the most likely tokens, and more of them
            only in rows where these do not hold the mass of the upper threshold; unless the gate is
            hard, they must hold that of 5 widths of the gate more, or all but one width. The same
            tokens are kept. The gates of all tokens that are not sorted move alike, by which the
            gradient of the thresholds, and the values of soft gates, differ by up to 1 %.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, a number is out of its range, a choice is none of those
            listed, or ``"ste"`` is used with ``"renorm_teacher"``, whose gradient at a closed gate
            is -inf.
        TypeError: If the logits are not floating point.

    Multi-Granularity Semantic Revision for Large Language Model Distillation, 2024, eq. (6) (the
    thresholds); the residual family follows ReTaCo, 2026.

    >>> import torch
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
