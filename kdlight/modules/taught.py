"""A module with a teacher: from a batch to a step, and the teacher's life beside the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from kdlight.data.targets import IGNORE, batch_labels
from kdlight.gather import use_group
from kdlight.logits import Logits
from kdlight.modules.accounted import AccountedModule
from kdlight.modules.checks import check_fit
from kdlight.objectives import Objective, Step
from kdlight.reduce import Chunked, Chunking, evaluation
from kdlight.teachers import (
    FrozenTeacher,
    SelectiveTeacher,
    Teacher,
    TeacherBase,
    live_teachers,
)

STEP_FIELDS = ("teacher_mask", "rejected", "span_ids")


class TaughtModule(AccountedModule):
    """An `AccountedModule` whose objective compares a student with a teacher.

    Attributes:
        teacher: held outside the module tree: it is no `torch.nn.Module`.
        chunked: whether logits are made in chunks.

    Example:
        >>> from kdlight import DistillationModule
        >>> issubclass(DistillationModule, TaughtModule)
        True
    """

    teacher: Teacher | None

    def learn_from(
        self,
        teacher: nn.Module | TeacherBase | Teacher | None,
        objective: Objective,
        normalization: Literal["global", "local"],
        chunked: bool | Literal["auto"] | Chunking,
    ) -> None:
        """Freeze the teacher, and begin to count what is learned from it."""
        self.open_accounts(objective, normalization)
        if teacher is not None and not isinstance(teacher, Teacher):
            teacher = FrozenTeacher(teacher)
        self.teacher = teacher
        self.chunked: Chunked = chunked
        self._said = False

    # ---- from a batch to a step: what a subclass overrides

    def student_logits(self, batch: Any) -> Logits:
        """Logits of the student for ``batch``, ``(..., V)``."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say where the student's logits come from; define"
            " student_logits(self, batch), such as `return self(batch[0])`"
        )

    def teacher_logits(self, batch: Any) -> Logits | None:
        """Logits of the teacher on the same positions, or None where there is no teacher."""
        return None if self.teacher is None else self.teacher(batch)

    def labels(self, batch: Any) -> Tensor | None:
        """Aligned labels ``(...)``, -100 where a position does not count; None if there are none.

        The batch of a causal language model holds labels that stand at their own tokens; they are
        shifted here, once, so that each stands where it is predicted.
        """
        return batch_labels(batch)

    def step(self, batch: Any) -> Step:
        """What ``batch`` offers the objective, and the metrics when the module is evaluated."""
        asked = self.objective.needs_teacher or not self.training
        if asked and self.training and isinstance(self.teacher, SelectiveTeacher):
            student = self.student_logits(batch)
            teacher = self.teacher.beside(batch, student, self.labels(batch))
            self.log(f"{self.prefix}/query_share", self.teacher.share)
        else:
            teacher = self.teacher_logits(batch) if asked else None
            student = self.student_logits(batch)
        if isinstance(self.teacher, TeacherBase):
            student = self.teacher.limit(student)
        return self.make_step(batch, student, teacher)

    def make_step(self, batch: Any, student: Logits, teacher: Logits | None) -> Step:
        """Logits that are there already, with the labels of ``batch`` and the mask they imply.

        What else a `Step` may hold is taken from a mapping by its name (``rejected``, ...).
        """
        labels = self.labels(batch)
        mask = None if labels is None else labels != IGNORE
        fields = [name for name in STEP_FIELDS if isinstance(batch, Mapping) and name in batch]
        step = Step(
            student,
            teacher,
            labels,
            mask,
            chunked=self.chunked,
            **{name: batch[name] for name in fields},
        )
        if not self._said:
            self._said = True
            rank_zero_info(f"kdlight: {evaluation(step.student, step.teacher, mask, self.chunked)}")
        return step

    # ---- the teacher's life

    def setup(self, stage: str) -> None:
        """Check that the parts fit before any work is done, and place the teacher."""
        super().setup(stage)
        if not self._ledgers:  # nobody is learned from
            return
        check_fit(self)
        if self.teacher is not None:
            self.teacher.prepare(self.trainer.strategy.root_device)

    def configure_model(self) -> None:
        """Under FSDP2, shard the teacher if it asks for it; once."""
        super().configure_model()
        if self.device_mesh is not None and self._ledgers:
            # tensor-parallel ranks see the same data, which is gathered once
            use_group(self.device_mesh["data_parallel"].get_group())
            for teacher in live_teachers(self.teacher):
                teacher.distribute(self.device_mesh)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Close the accounts of the step; a teacher that makes room for it leaves the device."""
        super().on_before_optimizer_step(optimizer)
        if isinstance(self.teacher, TeacherBase):
            self.teacher.rest()

    def teardown(self, stage: str) -> None:
        """Give the teacher's memory back."""
        super().teardown(stage)
        use_group(None)
        if self._ledgers and self.teacher is not None:
            self.teacher.release()
