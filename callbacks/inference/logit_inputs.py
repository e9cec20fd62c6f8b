"""The inputs of a loss on logits alone."""

from __future__ import annotations

from typing import Any

from kdlight.modules.base import DistillationBase
from kdlight.objectives import LossInputs
from kdlight.sources import Logits


def logit_inputs(module: DistillationBase, batch: Any, teacher: Logits | None = None) -> LossInputs:
    """Run the student, and return the inputs of a loss without features.

    No feature is captured, which a part of the student may not have.

    Args:
        module: the module, in the mode in which its student is to run.
        batch: the batch.
        teacher: logits of the teacher on it, if there are any.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> module = DistillationModule(SingleInput(nn.Linear(4, 3)), CrossEntropy())
        >>> batch = (torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))
        >>> logit_inputs(module, batch).student.shape
        torch.Size([2, 3])
    """
    student = module.student_logits(batch)
    if module.frozen_teacher is not None:
        student = module.frozen_teacher.mask_student(student)
    return module.make_loss_inputs(batch, student, teacher)
