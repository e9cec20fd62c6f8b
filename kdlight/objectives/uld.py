"""ULD: distance of sorted probabilities, for student and teacher with different tokenizers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight.checks import check_positive
from kdlight.losses.log_space import probs
from kdlight.losses.optimal_transport.uld import align, mean_weights, sorted_distance
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import Loss, token_sum


class ULD(Objective):
    """Distance of the sorted probabilities of each position, `kdlight.losses.uld`.

    Boizard et al., "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
    LLMs", 2024. Choose it if student and teacher have different tokenizers.

    The k-th valid position of the student is compared with the k-th valid position of the teacher
    (``mask`` and ``teacher_mask`` of the inputs). The unit is the sequence, of which the loss is
    the mean over its pairs of positions. The paper adds it to the cross-entropy with a weight of
    1.5.

    Args:
        student_temperature: divides the student's logits. Callbacks may change it.
        teacher_temperature: divides the teacher's logits. Callbacks may change it.

    Raises:
        ValueError: a temperature is not above 0 and finite.

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
        check_positive("student_temperature", student_temperature)
        check_positive("teacher_temperature", teacher_temperature)
        self.student_temperature = float(student_temperature)
        self.teacher_temperature = float(teacher_temperature)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum over sequences the mean loss of their pairs of positions."""
        self.check(inputs)
        assert inputs.teacher is not None
        student, teacher = inputs.student, inputs.teacher
        pairs = align(
            student.shape,
            teacher.shape,
            inputs.mask,
            inputs.valid_teacher_mask,
            device=student.device,
        )
        dtype = torch.promote_types(student.dtype, torch.float32)
        loss = token_sum(
            self._pair_loss,
            student.select(pairs.student),
            teacher.select(pairs.teacher),
            weights=mean_weights(pairs.lengths).to(student.device, dtype),
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )
        return loss._replace(count=(pairs.lengths > 0).sum())

    def _pair_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        q = probs(student, self.student_temperature)
        return sorted_distance(q, probs(teacher, self.teacher_temperature))
