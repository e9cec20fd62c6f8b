"""REDI: reinforcement distillation from chosen and rejected traces of a teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.checks import check_instance, check_range
from kdlight.objectives.base import check_vocabularies
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import Divergence
from kdlight.objectives.unpaired_preference import UnpairedPreference
from kdlight.reduce import PerTokenValues


class REDI(UnpairedPreference):
    r"""Raises the likelihood of chosen traces, lowers that of rejected ones, `kdlight.losses.redi`.

    .. math:: -\frac{c}{N_w} \sum_{y \in w} m(y) + \frac{\alpha}{N_l} \sum_{y \in l} m(y), \qquad
              m(y) = \frac{1}{|y|} \sum_t \log q_{t, y_t}

    Xu et al., "Harnessing Negative Signals: Reinforcement Distillation from Teacher Data for LLM
    Reasoning", 2025, eq. (5). The second stage of distillation from traces, after supervised
    fine-tuning on the chosen ones; the configs are ``configs/redi_stage1.yaml`` and
    ``configs/redi.yaml``. Traces need no pairs, see `UnpairedPreference`.

    The loss has no lower bound: it keeps lowering the probability of a token that occurs only in
    rejected traces, and the gradients stay finite. `kdlight.callbacks.REDIGuard` monitors the
    likelihood of the chosen traces, which falls when a run collapses.

    ``alpha`` and ``chosen_weight`` are from the paper. The other arguments are additions of this
    library; their defaults change nothing.

    Args:
        alpha: weight of rejected traces, in [0, 1]; the authors keep 0.8 and tune the learning
            rate.
        chosen_weight: weight c of chosen traces, not negative.
        rejected_per_chosen: rejected traces in the data per chosen one; 1 for pairs.
        min_rejected_length: shorter rejected traces are divided by this many tokens.
        floor: a log-probability, such as -7, below which a token of a rejected trace gets no
            gradient.
        gate: a probability in [0, 1). A token of a rejected trace gets no gradient unless the
            teacher's probability of it is above this, as there is no need to lower the probability
            of a token that the teacher would not generate.
        kd: a divergence from the teacher on chosen traces, in addition to their likelihood.
        kd_weight: its share :math:`\lambda`, :math:`(1 - \lambda)(-m) + \lambda\, KD`, in [0, 1].
            Where the student matches the teacher, a divergence has no gradient that could balance
            that of the rejected traces, so keep it below 1 or lower alpha.

    Raises:
        ValueError: a hyper-parameter is out of range.
        TypeError: kd is not a `Divergence`.

    Example:
        >>> labels = torch.tensor([[1, 2], [0, 2]])
        >>> rejected = torch.tensor([False, True])
        >>> inputs = LossInputs(torch.zeros(2, 2, 4), labels=labels, rejected=rejected)
        >>> round(REDI(alpha=0.8)(inputs).mean().item(), 4)  # (1 - 0.8) log 4
        0.2773
    """

    def __init__(
        self,
        *,
        alpha: float = 0.8,
        chosen_weight: float = 1.0,
        rejected_per_chosen: float = 1.0,
        min_rejected_length: int = 1,
        floor: float | None = None,
        gate: float | None = None,
        kd: Divergence | None = None,
        kd_weight: float = 0.5,
    ) -> None:
        super().__init__(
            alpha=alpha,
            chosen_weight=chosen_weight,
            rejected_per_chosen=rejected_per_chosen,
            min_rejected_length=min_rejected_length,
        )
        if floor is not None and not floor < 0:
            raise ValueError(f"floor is a log-probability and must be below 0, got {floor}")
        if gate is not None:
            check_range("gate", gate, 0.0, 1.0, open_high=True)
        if kd is not None:
            check_instance("kd", kd, Divergence)
        check_range("kd_weight", kd_weight, 0.0, 1.0)
        self.floor, self.gate = floor, gate
        self.kd, self.kd_weight = kd, float(kd_weight)
        if kd is not None or gate is not None:
            self.needs = self.needs | {"teacher"}

    def check(self, inputs: LossInputs) -> None:
        """Check the sequences, and that a teacher, if needed, has the student's vocabulary."""
        super().check(inputs)
        if "teacher" in self.needs and inputs.teacher is not None:
            check_vocabularies(inputs.student.shape[-1], inputs.teacher.shape[-1])

    def chosen_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """Compute the negative log-likelihood, mixed with the divergence if there is one."""
        nll = losses.cross_entropy(student, labels)
        extras = {"log_prob": -nll}
        if self.kd is None:
            return nll, extras
        divergence = self.kd.per_token_loss(student, teacher, labels)
        return (1.0 - self.kd_weight) * nll + self.kd_weight * divergence, extras

    def rejected_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """Compute the log-likelihood, constant below the floor and 0 where the gate is closed."""
        log_prob = -losses.cross_entropy(student, labels)
        values = log_prob if self.floor is None else log_prob.clamp(min=self.floor)
        if self.gate is not None:
            closed = torch.exp(-losses.cross_entropy(teacher, labels)) <= self.gate
            values = values.masked_fill(closed, 0.0)
        return values, {"log_prob": log_prob}
