"""From a batch to the inputs of a loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from kdlight.data.targets import batch_labels
from kdlight.distributed.ranks import row_group
from kdlight.models import ModelKind, model_kind
from kdlight.models.call_network import binary_logits, to_logits
from kdlight.models.router_loss import warn_about_router_loss
from kdlight.modules.captured_features import (
    CapturedFeatures,
    capture_features,
    check_not_compiled,
)
from kdlight.modules.drawn_labels import check_labels_are_drawn
from kdlight.modules.label_format import LabelFormat
from kdlight.modules.placed_labels import placed_labels
from kdlight.modules.server_errors import answered_on_all_ranks
from kdlight.modules.teacher_module import TeacherModule
from kdlight.objectives import LossInputs, Objective
from kdlight.objectives.inputs import OPTIONAL_FIELDS
from kdlight.reduce import Chunked
from kdlight.reduce.divide import describe_division
from kdlight.sources import Logits, LogitsSource, tempered
from kdlight.teachers import Teacher


class LossInputsModule(TeacherModule):
    """A module that computes `kdlight.LossInputs` from a batch, by a student and a teacher.

    Override one of `student_logits`, `teacher_logits`, `aligned_labels` for other batches or
    networks.

    Attributes:
        objective: the objective of the student.
        chunked: whether logits are computed in chunks.
        label_format: where the labels of a batch stand, and which value is ignored.
        log_prefix: prefix of the names that are logged in training.
        calibration_temperature: divides the teacher's logits; of the fits of
            `kdlight.callbacks.CalibrateTeacherFirst`, else 1.
        evaluates_alike: whether all ranks have equally many batches of the evaluation, and a
            teacher on a server, whose errors they tell each other.
        is_first_batch: at the next batch, check the values of labels, and log how logits are
            evaluated.
    """

    objective: Objective
    chunked: Chunked = "auto"
    label_format: LabelFormat = LabelFormat()
    log_prefix: str = "train"
    calibration_temperature: float = 1.0
    is_first_batch: bool = True
    evaluates_alike: bool = False
    _kind: ModelKind | None = None
    _has_logged_plan: bool = False

    def student_network(self) -> nn.Module:
        """Return the network that is trained, which callbacks evaluate and export."""
        raise NotImplementedError(f"{type(self).__name__} does not define student_network()")

    def student_logits(self, batch: Any) -> Logits:
        """Return the student's logits for ``batch``, ``(..., V)``."""
        raise NotImplementedError(
            f"{type(self).__name__} does not define where the student's logits come from; define"
            " student_logits(self, batch), such as `return self(batch[0])`"
        )

    def teacher_logits(self, batch: Any) -> Logits | None:
        """Return the teacher's logits on the same positions, or None without a teacher.

        A teacher that reads the labels is given them: ``self.teacher.answer(batch, labels=...)``.
        """
        frozen = self.frozen_teacher
        if frozen is not None and frozen.is_remote and self.is_first_batch:
            self.aligned_labels(batch)  # which finds their rule, and tells it to the teacher
        if frozen is not None and frozen.needs_labels:
            return frozen.answer(batch, labels=self.aligned_labels(batch))
        return None if self.teacher is None else self.teacher(batch)

    def aligned_labels(self, batch: Any) -> Tensor | None:
        """Return aligned labels ``(...)``, -100 at invalid positions; None if there are none.

        Labels of a causal language model stand at their own tokens in a batch. They are shifted
        here, once, so that each stands at the position that predicts it. Other labels stand at the
        logits already. Which of the two it is, is told by the argument ``labels`` of the module,
        by the class of the model, or by the batch itself, in this order.

        Raises:
            ValueError: none of them tells.
        """
        kind = self.student_kind()
        rule = self.label_format.rule_of(batch, kind, check=self.is_first_batch)
        if self.is_first_batch and self.frozen_teacher is not None:
            self.frozen_teacher.check_labels(rule, self.label_format.ignore_index)
        return batch_labels(batch, rule, ignore_index=self.label_format.ignore_index)

    def student_kind(self) -> ModelKind:
        """Return the kind of the student's network, as far as it tells."""
        if self._kind is None:
            self._kind = model_kind(self.known_student())
            teacher = [] if self.frozen_teacher is None else self.frozen_teacher.networks()
            if self._kind.labels is None and teacher:  # the labels are the same for both
                self._kind = self._kind._replace(labels=model_kind(teacher[0]).labels)
        return self._kind

    def known_student(self) -> nn.Module | None:
        """Return the student's network, or None where the module does not tell which it is."""
        try:
            return self.student_network()
        except (NotImplementedError, ValueError):
            return None

    def loss_inputs(self, batch: Any) -> LossInputs:
        """Compute the inputs of the objective, and of the metrics in evaluation."""
        with self.capture_features() as features:
            student, teacher = self._logits(batch)
        return self.make_loss_inputs(batch, student, teacher, features)

    def capture_features(self) -> AbstractContextManager[CapturedFeatures | None]:
        """Capture the features that the objective compares, while the networks run."""
        return capture_features(self.objective, self.feature_network(), self.frozen_teacher)

    def feature_network(self) -> nn.Module:
        """Return the network in which the paths of the student's features are found."""
        return self

    def _logits(self, batch: Any, student: Logits | None = None) -> tuple[Logits, Logits | None]:
        """Return the logits of both; those of the student may be known already."""
        if self.training and "teacher" not in self.objective.needs:
            return self._masked(self.student_logits(batch) if student is None else student), None
        frozen = self.frozen_teacher if self.training else None
        if frozen is not None and frozen.is_remote:
            frozen.expect(batch)  # the server works while the student does
            student = self.student_logits(batch) if student is None else student
        if frozen is not None and frozen.needs_student:
            student = self.student_logits(batch) if student is None else student
            with self._answered(frozen):
                teacher = frozen.answer(batch, student, self.aligned_labels(batch))
        else:
            with self._answered(self.frozen_teacher):
                teacher = self.teacher_logits(batch)
            student = self.student_logits(batch) if student is None else student
        if frozen is not None and self._trainer is not None:
            for name, value in frozen.metrics().items():
                self.log(f"{self.log_prefix}/{name}", value)
        return self._masked(student), teacher

    def _answered(self, frozen: Teacher | None) -> AbstractContextManager[None]:
        is_remote = frozen is not None and frozen.is_remote and self._trainer is not None
        is_alike = self.training or self.evaluates_alike
        return answered_on_all_ranks(self.trainer) if is_remote and is_alike else nullcontext()

    def _masked(self, student: Logits) -> Logits:
        frozen = self.frozen_teacher
        return student if frozen is None else frozen.mask_student(student)

    def make_loss_inputs(
        self,
        batch: Any,
        student: Logits,
        teacher: Logits | None,
        features: CapturedFeatures | None = None,
    ) -> LossInputs:
        """Combine logits with the labels of ``batch`` and the mask of valid positions.

        Further fields of `LossInputs` (``rejected``, ...) are taken from a batch that is a mapping.

        Raises:
            ValueError: labels do not stand at the positions of the logits, or are no classes of
                them; logits of more than three axes, of which none is known to hold the classes.
        """
        source = self._to_logits(student, "student_logits")
        target = None if teacher is None else self._to_logits(teacher, "teacher_logits")
        labels, mask = placed_labels(
            self.aligned_labels(batch),
            batch,
            source.shape,
            kind=self.student_kind(),
            network=self.known_student(),
            objective=self.objective,
            check=self.is_first_batch,
        )
        fields = [name for name in OPTIONAL_FIELDS if isinstance(batch, Mapping) and name in batch]
        # tensor-parallel ranks have the same data, which is gathered once, and divide its rows
        mesh = self.device_mesh
        inputs = LossInputs(
            source,
            None if target is None else tempered(target, self.calibration_temperature),
            labels,
            mask,
            chunked=self.chunked,
            group=None if mesh is None else mesh["data_parallel"].get_group(),
            row_group=row_group(mesh),
            **({} if features is None else features.fields(batch, self.known_student())),
            **{name: batch[name] for name in fields},
        )
        if self.is_first_batch:
            self.is_first_batch = False
            if not self._has_logged_plan:
                self._has_logged_plan = True
                plan = describe_division(
                    inputs.student, inputs.teacher, mask, self.chunked, inputs.row_group
                )
                rank_zero_info(f"kdlight: {plan}")
        return inputs

    @contextmanager
    def outside_of_steps(self) -> Iterator[None]:
        """Within the block, logits may be those of any network, with no loss to be trained on.

        How logits are evaluated is not logged, and the next batch after it is checked as before.
        """
        before = self.is_first_batch, self._has_logged_plan
        self._has_logged_plan = True
        try:
            yield
        finally:
            self.is_first_batch, self._has_logged_plan = before

    def _to_logits(self, logits: Logits, name: str) -> LogitsSource:
        source = to_logits(logits, name=name)
        is_raw = isinstance(logits, Tensor) and logits.dim() == 2
        return binary_logits(source) if is_raw and self.student_kind().is_multi_label else source

    def prepare_run(self) -> None:
        """Check that the parts fit, and move the teacher to the device of the run."""
        self._kind, self.is_first_batch, self._has_logged_plan = None, True, False
        self.label_format.reset()
        if self.frozen_teacher is not None and self.label_format.rule != "auto":
            rule, ignore_index = self.label_format.rule, self.label_format.ignore_index
            self.frozen_teacher.check_labels(rule, ignore_index)
        if hasattr(self, "objective"):
            check_not_compiled(self.objective, self)
        if self.trainer.state.fn == "fit":
            warn_about_router_loss(self)
            check_labels_are_drawn(self)
        super().prepare_run()
