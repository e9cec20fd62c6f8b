"""From a batch to the inputs of a loss, and the lifecycle of the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer

from kdlight.data.targets import batch_labels
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.objectives import LossInputs, Objective
from kdlight.objectives.inputs import OPTIONAL_FIELDS
from kdlight.reduce import Chunked, describe_plan
from kdlight.sources import Logits
from kdlight.teachers import Teacher


class LossInputsModule(LightningModule):
    """A module that computes `kdlight.LossInputs` from a batch, by a student and a teacher.

    Override one of `student_logits`, `teacher_logits`, `labels` for other batches or networks.

    Attributes:
        objective: the objective of the student.
        teacher: held outside of the module tree, as it is no `torch.nn.Module`.
        chunked: whether logits are computed in chunks.
        prefix: prefix of the names that are logged in training.
        log_plan: log once how logits are evaluated.
    """

    objective: Objective
    teacher: Any  # without a value, which would hide a network of this name
    chunked: Chunked = "auto"
    prefix: str = "train"
    log_plan: bool = True

    @property
    def frozen_teacher(self) -> Teacher | None:
        """The teacher, unless it is a network that is trained, too."""
        teacher = getattr(self, "teacher", None)
        return teacher if isinstance(teacher, Teacher) else None

    def student_logits(self, batch: Any) -> Logits:
        """Return the student's logits for ``batch``, ``(..., V)``."""
        raise NotImplementedError(
            f"{type(self).__name__} does not define where the student's logits come from; define"
            " student_logits(self, batch), such as `return self(batch[0])`"
        )

    def teacher_logits(self, batch: Any) -> Logits | None:
        """Return the teacher's logits on the same positions, or None without a teacher."""
        return None if self.teacher is None else self.teacher(batch)

    def labels(self, batch: Any) -> Tensor | None:
        """Return aligned labels ``(...)``, -100 at invalid positions; None if there are none.

        The labels in a batch of a causal language model stand at their own tokens. They are shifted
        here, once, so that each stands at the position that predicts it.
        """
        return batch_labels(batch)

    def loss_inputs(self, batch: Any) -> LossInputs:
        """Compute the inputs of the objective, and of the metrics in evaluation."""
        return self.make_loss_inputs(batch, *self._logits(batch))

    def _logits(self, batch: Any) -> tuple[Logits, Logits | None]:
        if self.training and "teacher" not in self.objective.needs:
            return self._masked(self.student_logits(batch)), None
        frozen = self.frozen_teacher if self.training else None
        if frozen is not None and frozen.needs_student:
            student = self.student_logits(batch)
            teacher = frozen.answer(batch, student, self.labels(batch))
        else:
            teacher = self.teacher_logits(batch)
            student = self.student_logits(batch)
        for name, value in frozen.metrics().items() if frozen is not None else ():
            self.log(f"{self.prefix}/{name}", value)
        return self._masked(student), teacher

    def _masked(self, student: Logits) -> Logits:
        frozen = self.frozen_teacher
        return student if frozen is None else frozen.mask_student(student)

    def make_loss_inputs(self, batch: Any, student: Logits, teacher: Logits | None) -> LossInputs:
        """Combine logits with the labels of ``batch`` and the mask of valid positions.

        Further fields of `LossInputs` (``rejected``, ...) are taken from a batch that is a mapping.
        """
        labels = self.labels(batch)
        mask = None if labels is None else labels != IGNORE_INDEX
        fields = [name for name in OPTIONAL_FIELDS if isinstance(batch, Mapping) and name in batch]
        # tensor-parallel ranks have the same data, which is gathered once
        mesh = self.device_mesh
        inputs = LossInputs(
            student,
            teacher,
            labels,
            mask,
            chunked=self.chunked,
            group=None if mesh is None else mesh["data_parallel"].get_group(),
            **{name: batch[name] for name in fields},
        )
        if self.log_plan:
            self.log_plan = False
            plan = describe_plan(inputs.student, inputs.teacher, mask, self.chunked)
            rank_zero_info(f"kdlight: {plan}")
        return inputs

    # ---- lifecycle of the teacher

    def setup(self, stage: str) -> None:
        """Move the teacher to the device of the run."""
        super().setup(stage)
        if self.frozen_teacher is not None:
            self.frozen_teacher.prepare(self.trainer.strategy.root_device)

    def configure_model(self) -> None:
        """Under FSDP2, shard the teacher if configured; once."""
        super().configure_model()
        if self.device_mesh is not None and self.frozen_teacher is not None:
            self.frozen_teacher.distribute(self.device_mesh)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Offload the teacher if configured."""
        super().on_before_optimizer_step(optimizer)
        if self.frozen_teacher is not None:
            self.frozen_teacher.offload()

    def teardown(self, stage: str) -> None:
        """Free the memory of the teacher."""
        super().teardown(stage)
        if self.frozen_teacher is not None:
            self.frozen_teacher.release()
