"""DAC-KL: the student learns what stands between two thresholds of the teacher's distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from kdlight.losses.checks import check_range
from kdlight.losses.clipped_kl.clipping import Clipped, Rule, check_clipping, clip
from kdlight.losses.clipped_kl.gated_kl import Tail
from kdlight.losses.clipped_kl.gates import Gate
from kdlight.losses.log_space import tempered_pair
from kdlight.objectives.clipping_network import ClippingNetwork
from kdlight.objectives.token_objective import Divergence
from kdlight.reduce import PerTokenValues

Thresholds: TypeAlias = Callable[[Tensor, Tensor], tuple[Any, Any]]


class DACKL(Divergence):
    r"""Distribution-adaptive clipping KL, `kdlight.losses.dac_kl`, with its thresholds.

    .. math:: L = T^2 \operatorname{KL}_S(p \| q) + w \max(0, m - P)^2,
              \qquad P = \sum_{v \in S} p_v

    Liu et al., "Multi-Granularity Semantic Revision for Large Language Model Distillation", 2024.
    Choose it where the long tail of a large teacher is noise to a small student. Known of the
    paper, in part at second hand, is that the teacher's distribution is clipped between two
    thresholds, and that a small network learns them through the loss itself; rule, tail, gate,
    guards and network are choices made here, and each is an option.

    A network that learns through the loss finds that the less is compared, the smaller the loss:
    left alone it keeps one token, and the student learns nothing. Two guards are on by default:
    `ClippingNetwork` bounds the upper threshold from below, and the second term of the loss asks
    for a kept mass P of at least m. What happens shows in the log, as means over tokens: the
    thresholds ``lower`` and ``upper``, the number of tokens ``kept``, the
    ``mass`` P, the ``coverage`` term, and ``full_kl``, forward KL over all tokens.

    The network's parameters are the objective's own: in a parameter group of their own, in
    checkpoints, their gradients reduced over ranks.

    Args:
        thresholds: ``"learned"`` by a `ClippingNetwork`; ``"fixed"``, at ``lower`` and ``upper``; a
            network of one's own, which is learned, too; or a function. Both take tempered logits of
            student and teacher, ``(n, V), (n, V)``, and return the two thresholds, ``(n,), (n,)``.
        lower: the fixed lower threshold. May be moved by a callback.
        upper: the fixed upper threshold. May be moved.
        rule: what the thresholds cut, ``"mass"``, ``"quantile"``, ``"value"`` or ``"clamp"``.
        tail: what becomes of the rest, ``"bucket"``, ``"renorm"``, ``"renorm_teacher"``,
            ``"none"`` or ``"residual"``.
        residual: between the bucket (0) and the teacher renormalised (1), with that tail.
        gate: how thresholds are learned, ``"ste"`` or ``"soft"``; or ``"hard"``, if they are not.
        gate_temperature: width of the gate. May be moved, as from 0.1 to 0.02.
        include_target: always keep the label, where the inputs has labels.
        include_argmax: always keep the teacher's likeliest token.
        coverage_weight: w, not negative; only for learned thresholds.
        mass_floor: m, in [0, 1].
        strength: what the gradient to the thresholds is multiplied by. May be moved; at 0 they
            rest, as in the first steps of a run, when the student says nothing yet.
        head: look at so many of the likeliest tokens before a whole vocabulary is sorted, see
            `kdlight.losses.dac_kl`; None always sorts.
        temperature: divides both logits, above 0. May be moved.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a number out of its range; learned thresholds with a gate that does not move
            them, or with ``tail="none"``, whose loss has no lower bound for them to stop at.

    Example:
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> loss = DACKL()(LossInputs(logits, logits))
        >>> round(abs(loss.mean().item()), 6), sorted(loss.parts)
        (0.0, ['coverage', 'full_kl', 'kept', 'lower', 'mass', 'upper'])
    """

    def __init__(
        self,
        *,
        thresholds: Literal["learned", "fixed"] | Thresholds = "learned",
        lower: float = 0.0,
        upper: float = 0.95,
        rule: Rule = "mass",
        tail: Tail = "bucket",
        residual: float = 0.0,
        gate: Gate = "ste",
        gate_temperature: float = 0.05,
        include_target: bool = True,
        include_argmax: bool = True,
        coverage_weight: float = 10.0,
        mass_floor: float = 0.9,
        strength: float = 1.0,
        head: int | None = 1024,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        if thresholds == "learned":
            thresholds = ClippingNetwork()
        learned = isinstance(thresholds, nn.Module)
        if not learned and gate == "ste":
            gate = "hard"  # the same, where nothing is learned
        check_clipping(rule=rule, tail=tail, gate=gate, residual=residual, width=gate_temperature)
        if thresholds != "fixed" and not callable(thresholds):
            raise ValueError(
                "thresholds must be 'learned', 'fixed', a network or a function of the logits of"
                f" student and teacher, got {thresholds!r}"
            )
        if learned and gate == "hard" and rule != "clamp":
            raise ValueError("gate='hard' lets no thresholds be learned; use 'ste' or 'soft'")
        if learned and tail == "none" and rule != "clamp":
            raise ValueError(
                "tail='none' is no divergence: thresholds that are learned find the tokens that"
                " make it negative; use another tail, or thresholds='fixed'"
            )
        check_range("lower", lower, 0.0, 1.0)
        check_range("upper", upper, 0.0, 1.0)
        if not lower < upper:
            raise ValueError(f"lower must be below upper, got lower={lower} and upper={upper}")
        check_range("mass_floor", mass_floor, 0.0, 1.0)
        check_range("coverage_weight", coverage_weight, 0.0, torch.inf, open_high=True)
        check_range("strength", strength, 0.0, torch.inf, open_high=True)
        if head is not None and head < 1:
            raise ValueError(f"head must be at least 1, or None, got {head}")
        self.thresholds = thresholds
        self.learned = learned
        self.lower, self.upper = float(lower), float(upper)
        self.rule: Rule = rule
        self.tail: Tail = tail
        self.gate: Gate = gate
        self.residual, self.gate_temperature = float(residual), float(gate_temperature)
        self.include_target, self.include_argmax = bool(include_target), bool(include_argmax)
        self.coverage_weight, self.mass_floor = float(coverage_weight), float(mass_floor)
        self.strength, self.head = float(strength), head

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """The clipped KL alone, ``(n, V), (n, V), (n,) -> (n,)``."""
        return self._clip(student, teacher, labels)[0].values

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """``(n, V), (n, V), (n,) -> (n,)``, and what was kept for the log."""
        found, lower, upper = self._clip(student, teacher, labels)
        values = found.values
        if self.temperature_squared:
            values = values * self.temperature**2
        coverage = torch.zeros_like(values)
        if self.learned:
            coverage = self.coverage_weight * (self.mass_floor - found.mass).clamp(min=0.0).square()
        parts = {
            "lower": lower,
            "upper": upper,
            "kept": found.kept.to(values.dtype),
            "mass": found.mass,
            "coverage": coverage,
            "full_kl": found.full,
        }
        return values + coverage, {name: part.detach() for name, part in parts.items()}

    def _clip(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Clipped, Tensor, Tensor]:
        lower, upper = self._thresholds(student, teacher)
        found = clip(
            student,
            teacher,
            lower=lower,
            upper=upper,
            rule=self.rule,
            tail=self.tail,
            gate=self.gate,
            labels=labels if self.include_target else None,
            include_argmax=self.include_argmax,
            gate_temperature=self.gate_temperature,
            residual=self.residual,
            temperature=self.temperature,
            head=self.head,
        )
        return found, lower, upper

    def _thresholds(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        student, teacher = tempered_pair(student.detach(), teacher.detach(), self.temperature)
        bounds: Any = (self.lower, self.upper)
        if callable(self.thresholds):
            bounds = self.thresholds(student, teacher)
        lower, upper = (torch.as_tensor(x).to(student).expand(student.shape[:-1]) for x in bounds)
        if self.strength == 1:
            return lower, upper
        still = [x.detach() for x in (lower, upper)]
        return (
            still[0] + self.strength * (lower - still[0]),
            still[1] + self.strength * (upper - still[1]),
        )
