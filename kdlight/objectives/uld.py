"""ULD as an objective: teacher and student may have different tokenizers."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor

from kdlight.losses.log_space import probs
from kdlight.losses.optimal_transport.uld import align, mean_weights, sorted_distance
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import Loss, token_sum


class ULD(Objective):
    """Distance of sorted probabilities, position by position, `kdlight.losses.uld`.

    Boizard et al., "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
    LLMs", 2024. Choose it where the tokenizers differ.

    The k-th position of the student that counts stands beside the k-th of the teacher that does
    (``step.mask`` and ``step.teacher_mask``). It counts sequences: each is the mean of its pairs.
    The paper adds it to the cross-entropy with a weight of 1.5.

    Args:
        student_temperature: divides the student's logits. May be moved by a callback.
        teacher_temperature: divides the teacher's. May be moved.

    Raises:
        ValueError: a temperature that is not above 0 and finite.

    Example:
        >>> import torch
        >>> ULD()(LossInputs(torch.zeros(2, 3, 5), torch.zeros(2, 4, 7))).count
        tensor(2)
    """

    unit = "sequence"

    def __init__(
        self, *, student_temperature: float = 1.0, teacher_temperature: float = 1.0
    ) -> None:
        super().__init__()
        for side, value in (("student", student_temperature), ("teacher", teacher_temperature)):
            if not 0 < value < inf:
                raise ValueError(f"{side}_temperature must be above 0 and finite, got {value}")
        self.student_temperature = float(student_temperature)
        self.teacher_temperature = float(teacher_temperature)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum over sequences of the mean over their pairs of positions."""
        self.check(inputs)
        assert inputs.teacher is not None
        device = inputs.student.device
        shapes = inputs.student.shape, inputs.teacher.shape
        pairs = align(*shapes, inputs.mask, inputs.valid_teacher_mask, device=device)
        wide = torch.promote_types(inputs.student.dtype, torch.float32)
        loss = token_sum(
            self._rows,
            inputs.student.select(pairs.student),
            inputs.teacher.select(pairs.teacher),
            weights=mean_weights(pairs.lengths).to(device, wide),
            chunked=inputs.chunked,
        )
        return loss._replace(count=(pairs.lengths > 0).sum())

    def _rows(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        q = probs(student, self.student_temperature)
        return sorted_distance(q, probs(teacher, self.teacher_temperature))
