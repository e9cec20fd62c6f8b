"""REDI: reinforcement distillation from right and wrong traces of a teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.checks import check_range
from kdlight.objectives.base import check_vocabularies
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import Divergence
from kdlight.objectives.unpaired_preference import UnpairedPreference
from kdlight.reduce import PerTokenValues


class REDI(UnpairedPreference):
    r"""Likelihood of right traces up, of wrong ones down: `kdlight.losses.redi` of a whole batch.

    .. math:: -\frac{c}{N_w} \sum_{y \in w} m(y) + \frac{\alpha}{N_l} \sum_{y \in l} m(y), \qquad
              m(y) = \frac{1}{|y|} \sum_t \log q_{t, y_t}

    Xu et al., "Harnessing Negative Signals: Reinforcement Distillation from Teacher Data for LLM
    Reasoning", 2025, eq. (5). The second stage of a distillation from traces, after supervised
    fine-tuning on the right ones; ``configs/redi_stage1.yaml`` and ``configs/redi.yaml`` are the
    two. Traces need no pairs, see `UnpairedPreference`.

    The loss has no lower bound: a token seen in wrong traces alone is pushed down for ever, and no
    gradient overflows to show it. `kdlight.callbacks.REDIGuard` watches the likelihood of right
    traces, which is what falls.

    The paper knows ``alpha`` and ``chosen_weight``. All that follows is ours and off by default.

    Args:
        alpha: weight of wrong traces, in [0, 1]; the authors keep 0.8 and tune the learning rate.
        chosen_weight: weight c of right ones.
        rejected_per_chosen: how many wrong traces the data hold for a right one; 1 for pairs.
        min_rejected_length: divide a shorter wrong trace by this many tokens.
        floor: a log-probability below which a token of a wrong trace is left alone, such as -7.
        gate: leave tokens of a wrong trace alone unless the teacher gives them a probability above
            this, in [0, 1): what the teacher would not say either need not be pushed down.
        kd: a divergence from the teacher on right traces, beside their likelihood.
        kd_weight: the share :math:`\lambda` of it, :math:`(1 - \lambda)(-m) + \lambda\, KD`, in
            [0, 1]. At a match with the teacher a divergence holds nothing against the push on
            wrong traces, so keep it below 1 or lower alpha.

    Raises:
        ValueError: a number outside its range.
        TypeError: kd is no `Divergence`.

    Example:
        >>> labels = torch.tensor([[1, 2], [0, 2]])
        >>> inputs = LossInputs(torch.zeros(2, 2, 4), labels=labels, rejected=torch.tensor([False, True]))
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
            raise ValueError(f"floor is a log-probability, below 0, got {floor}")
        if gate is not None:
            check_range("gate", gate, 0.0, 1.0, open_high=True)
        if kd is not None and not isinstance(kd, Divergence):
            raise TypeError(f"kd must be a Divergence, got {type(kd).__name__}")
        check_range("kd_weight", kd_weight, 0.0, 1.0)
        self.floor, self.gate = floor, gate
        self.kd, self.kd_weight = kd, float(kd_weight)
        if kd is not None or gate is not None:
            self.needs = self.needs | {"teacher"}

    def check(self, inputs: LossInputs) -> None:
        """Besides what sequences need: one vocabulary, where a teacher is looked at."""
        super().check(inputs)
        if "teacher" in self.needs and inputs.teacher is not None:
            check_vocabularies(inputs.student.shape[-1], inputs.teacher.shape[-1])

    def chosen_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """The negative log-likelihood, with a share of the divergence if there is one."""
        nll = losses.cross_entropy(student, labels)
        extras = {"log_prob": -nll}
        if self.kd is None:
            return nll, extras
        divergence = self.kd.per_token_loss(student, teacher, labels)
        return (1.0 - self.kd_weight) * nll + self.kd_weight * divergence, extras

    def rejected_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """The log-likelihood, but where the floor is reached or the gate is closed."""
        log_prob = -losses.cross_entropy(student, labels)
        values = log_prob if self.floor is None else log_prob.clamp(min=self.floor)
        if self.gate is not None:
            closed = torch.exp(-losses.cross_entropy(teacher, labels)) <= self.gate
            values = values.masked_fill(closed, 0.0)
        return values, {"log_prob": log_prob}
