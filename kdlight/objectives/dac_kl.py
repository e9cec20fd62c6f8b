"""DAC-KL: forward KL on the part of the teacher's distribution between two thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from kdlight.checks import check_range
from kdlight.losses.clipped_kl.clipping import Clipped, Rule, check_clipping, check_thresholds, clip
from kdlight.losses.clipped_kl.closed_form import clip_and_grad
from kdlight.losses.clipped_kl.compared import Compared, compare
from kdlight.losses.clipped_kl.gated_kl import Tail
from kdlight.losses.clipped_kl.gates import Gate
from kdlight.losses.log_space import tempered_pair
from kdlight.objectives.clipping_network import ClippingNetwork
from kdlight.objectives.token_objective import Divergence
from kdlight.reduce import PerTokenValues

Thresholds: TypeAlias = Callable[[Tensor, Tensor], tuple[Any, Any]]


class DACKL(Divergence):
    r"""Distribution-adaptive clipping KL, `kdlight.losses.dac_kl`, with learned thresholds.

    .. math:: L = T^2 \operatorname{KL}_S(p \| q) + w \max(0, m - P)^2,
              \qquad P = \sum_{v \in S} p_v

    Liu et al., "Multi-Granularity Semantic Revision for Large Language Model Distillation", 2024.
    Choose it if the long tail of a large teacher is noise to a small student. What is known of the
    paper, in part at second hand, is that the teacher's distribution is clipped between two
    thresholds, and that a small network learns them through the loss itself. Rule, tail, gate,
    bounds and network are choices made here, and all of them are options.

    The loss is smaller the fewer tokens are compared. A network trained on it alone learns to keep
    a single token, and the student learns nothing. Two bounds are on by default: `ClippingNetwork`
    bounds the upper threshold from below, and the second term of the loss penalizes a kept mass P
    below m. The log shows means over tokens: the thresholds ``lower`` and ``upper``, the number of
    tokens ``kept``, the ``mass`` P, the ``coverage`` term, and ``full_kl``, the forward KL over all
    tokens.

    The network's parameters belong to the objective: they have a parameter group of their own, are
    saved in checkpoints, and their gradients are reduced over ranks.

    Args:
        thresholds: ``"learned"`` by a `ClippingNetwork`; ``"fixed"`` at ``lower`` and ``upper``; a
            network of your own, which is trained as well; or a function. Networks and functions get
            the tempered logits of student and teacher, ``(n, V), (n, V)``, and return both
            thresholds, ``(n,), (n,)``.
        lower: the fixed lower threshold. Callbacks may change it.
        upper: the fixed upper threshold. Callbacks may change it.
        rule: what the thresholds apply to, ``"mass"``, ``"quantile"``, ``"value"`` or ``"clamp"``.
        tail: how the other tokens count, ``"bucket"``, ``"renorm"``, ``"renorm_teacher"``,
            ``"none"`` or ``"residual"``.
        residual: with ``tail="residual"``, interpolates between the bucket (0) and the renormalised
            teacher (1).
        gate: gradient of the thresholds, ``"ste"`` or ``"soft"``; or ``"hard"`` for none.
        gate_temperature: width of the gate. Callbacks may change it, for example from 0.1 to 0.02.
        include_target: always keep the label, if the inputs have labels.
        include_argmax: always keep the teacher's most likely token.
        coverage_weight: w, not negative; used only with learned thresholds.
        mass_floor: m, in [0, 1].
        strength: factor of the gradient to the thresholds, not negative. Callbacks may change it;
            at 0 the thresholds are not trained, for example in the first steps of a run, when the
            student's distribution carries no information yet.
        head: with ``rule="mass"``, number of most likely tokens that are sorted first, for speed;
            more are sorted in rows where these hold too little mass. The kept tokens are exact. The
            others share one gate, which may change the gradient of the thresholds by a percent;
            with None all tokens are sorted, and it is exact. See `kdlight.losses.dac_kl`.
        temperature: divides both logits, above 0. Callbacks may change it.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range; learned thresholds with a gate that gives
            them no gradient, or with ``tail="none"``, whose loss has no lower bound.

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
        head: int | None = 256,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        if thresholds == "learned":
            thresholds = ClippingNetwork()
        learned = isinstance(thresholds, nn.Module)
        if not learned and gate == "ste":
            gate = "hard"  # the same values, and nothing to learn
        check_clipping(
            rule=rule, tail=tail, gate=gate, residual=residual, width=gate_temperature, head=head
        )
        if thresholds != "fixed" and not callable(thresholds):
            raise ValueError(
                "thresholds must be 'learned', 'fixed', or a network or function of the logits of"
                f" student and teacher, got {thresholds!r}"
            )
        if learned and gate == "hard" and rule != "clamp":
            raise ValueError(
                "gate='hard' gives the thresholds no gradient; use gate='ste' or 'soft', or"
                " thresholds='fixed'"
            )
        if learned and tail == "none" and rule != "clamp":
            raise ValueError(
                "tail='none' is not a divergence: learned thresholds would select the tokens that"
                " make it negative; use another tail, or thresholds='fixed'"
            )
        check_thresholds(lower, upper)
        check_range("mass_floor", mass_floor, 0.0, 1.0)
        check_range("coverage_weight", coverage_weight, 0.0, torch.inf, open_high=True)
        check_range("strength", strength, 0.0, torch.inf, open_high=True)
        self.thresholds, self.learned = thresholds, learned
        self.lower, self.upper = float(lower), float(upper)
        self.rule: Rule = rule
        self.tail: Tail = tail
        self.gate: Gate = gate
        self.residual, self.gate_temperature = float(residual), float(gate_temperature)
        self.include_target, self.include_argmax = bool(include_target), bool(include_argmax)
        self.coverage_weight, self.mass_floor = float(coverage_weight), float(mass_floor)
        self.strength, self.head = float(strength), head

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the clipped KL alone, ``(n, V), (n, V), (n,) -> (n,)``."""
        return self._clip(student, teacher, labels)[0].values

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """Compute the loss, ``(n, V), (n, V), (n,) -> (n,)``, and values for the log."""
        return self._loss(*self._clip(student, teacher, labels))

    def value_and_grad(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[PerTokenValues, Tensor] | None:
        """Compute the loss and its gradient, or return None for other rules, tails and gates."""
        if self.rule != "mass" or self.tail != "bucket" or self.gate == "soft" or self.head is None:
            return None
        check_clipping(  # a callback may have changed them
            rule=self.rule,
            tail=self.tail,
            gate=self.gate,
            residual=self.residual,
            width=self.gate_temperature,
            head=self.head,
        )
        temperature = self.temperature
        scaled = tempered_pair(student.detach(), teacher.detach(), temperature)
        both = compare(*scaled, self.head)
        lower, upper = self._thresholds(student, teacher, both)
        clipped, grad = clip_and_grad(
            both,
            lower,
            upper,
            labels if self.include_target else None,
            include_argmax=self.include_argmax,
            gate_temperature=self.gate_temperature if self.gate == "ste" else None,
        )
        if temperature != 1:
            grad.mul_(temperature if self.temperature_squared else 1 / temperature)
        return self._loss(clipped, lower, upper), grad

    def _loss(self, clipped: Clipped, lower: Tensor, upper: Tensor) -> PerTokenValues:
        values = clipped.values
        if self.temperature_squared:
            values = values * self.temperature**2
        coverage = torch.zeros_like(values)
        if self.learned:
            missing = (self.mass_floor - clipped.mass).clamp(min=0.0)
            coverage = self.coverage_weight * missing.square()
        parts = {
            "lower": lower,
            "upper": upper,
            "kept": clipped.kept.to(values.dtype),
            "mass": clipped.mass,
            "coverage": coverage,
            "full_kl": clipped.full,
        }
        return values + coverage, {name: part.detach() for name, part in parts.items()}

    def _clip(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Clipped, Tensor, Tensor]:
        lower, upper = self._thresholds(student, teacher)
        clipped = clip(
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
        return clipped, lower, upper

    def _thresholds(
        self, student: Tensor, teacher: Tensor, both: Compared | None = None
    ) -> tuple[Tensor, Tensor]:
        student, teacher = tempered_pair(student.detach(), teacher.detach(), self.temperature)
        thresholds: Any = (self.lower, self.upper)
        if not callable(self.thresholds):
            check_thresholds(self.lower, self.upper)  # a callback may have changed them
        else:
            known = () if both is None else self._known_features(both)
            thresholds = self.thresholds(student, teacher, *known)
        lower, upper = (
            # filled on the device, to which a number would be copied
            (x.to(student) if isinstance(x, Tensor) else student.new_full((), x)).expand(
                student.shape[:-1]
            )
            for x in thresholds
        )
        if self.strength == 1:
            return lower, upper
        return self._scale_grad(lower), self._scale_grad(upper)

    def _known_features(self, both: Compared) -> tuple[Tensor, ...]:
        # the network would sort the same tokens; a subclass may have features of its own
        network, count = self.thresholds, both.order.shape[-1]
        if type(network) is not ClippingNetwork or count < min(network.top_k, both.p.shape[-1]):
            return ()
        return (network.assembled(both.likeliest(network.top_k), both.entropies()),)

    def _scale_grad(self, threshold: Tensor) -> Tensor:
        return (value := threshold.detach()) + self.strength * (threshold - value)
