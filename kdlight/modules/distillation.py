"""The LightningModule that trains a student on a teacher's logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.metrics import DistillationMetrics
from kdlight.models import StudentRecipe, call_network, rebuild_config
from kdlight.modules.fit_checks import check_fit, check_strategy
from kdlight.modules.label_format import LabelFormat
from kdlight.modules.optimizers import Groups, PartOptimizers, default_optimizer, trainable
from kdlight.modules.part_checks import check_network, check_teacher
from kdlight.modules.standalone import StandaloneModule, from_config
from kdlight.modules.step_driver import STUDENT
from kdlight.objectives import Objective
from kdlight.reduce import Chunking
from kdlight.sources import Logits
from kdlight.teachers import Teacher, as_teacher, check_shared

LIVE_ARGUMENTS = ["student", "teacher", "objective", "optimizer", "lr_scheduler"]
"""Arguments that are objects: they are saved as hyper-parameters only as the config of a run."""


class DistillationModule(StandaloneModule):
    """Trains a student on a teacher's logits.

    Student and teacher are callables from a batch to a logits source or to a tensor of logits. The
    objective gets the `kdlight.LossInputs` computed from them. To use it in a project of your own,
    subclass it and override one of `student_logits`, `teacher_logits`, `labels`. For a
    LightningModule that exists already there is `kdlight.DistillationMixin`.

    The gradient of an optimizer step is that of one big batch: a sum over all units of all
    micro-batches and ranks, divided once by their number, after unscaling and before clipping.

    Args:
        student: the network that is trained, from a batch to logits; or a recipe that builds it
            from the teacher's network, such as `kdlight.PrunedCausalLM`.
        objective: the loss.
        teacher: a network, which is frozen and held outside of the module tree; a
            `kdlight.CachedTeacher` or any other `kdlight.teachers.Teacher`; None for objectives
            that need none.
        optimizer: from parameters (or groups of them) to an optimizer; AdamW with a learning rate
            of 5e-4 by default. The parameters of the objective, if any, are a second group. Or a
            mapping with ``student`` and ``objective``, which gives each an optimizer of its own.
        lr_scheduler: from the optimizer to a learning-rate schedule.
        lr_scheduler_config: options of Lightning's scheduler dict: ``interval`` (``"step"`` by
            default, ``"epoch"`` for ``ReduceLROnPlateau``), ``frequency``, ``monitor``, ``strict``,
            ``name``.
        normalization: ``"global"``, as above; ``"local"`` divides each micro-batch by its own count
            and averages, as Lightning does by default.
        chunked: whether logits are computed in chunks of tokens, so that they never exist all at
            once: ``"auto"`` decides by their size and logs its choice; False computes them at once,
            for debugging; a `kdlight.Chunking` sets the sizes, and compiles.
        labels: where the labels of a batch stand: ``"causal"`` at their own tokens, to be shifted,
            as causal language models take them; ``"aligned"`` at the logits that predict them;
            ``"none"`` if the batch has no labels of these logits; ``"auto"`` for what the class of
            the model tells, or else the batch, see `kdlight.data.batch_labels`.
        ignore_index: labels of this value are ignored, as those of -100 are.
        temperature: of the divergences among the validation metrics; None for that of the
            objective if it has one, else 1.

    Raises:
        TypeError: an argument of the wrong kind, such as a class instead of an object.
        ValueError: an unknown normalization, rule of labels or scheduler option; a recipe without
            a teacher.

    Example:
        >>> from kdlight import SingleInput
        >>> from kdlight.objectives import ForwardKL
        >>> module = DistillationModule(
        ...     student=SingleInput(nn.Linear(4, 3)), teacher=SingleInput(nn.Linear(4, 3)),
        ...     objective=ForwardKL(temperature=2.0),
        ... )
        >>> sorted({name.split(".")[0] for name, _ in module.named_parameters()})
        ['student']
    """

    def __init__(
        self,
        student: nn.Module | StudentRecipe,
        objective: Objective,
        teacher: nn.Module | Teacher | None = None,
        optimizer: PartOptimizers | Callable[[Iterable], Optimizer] = default_optimizer,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        lr_scheduler_config: dict[str, Any] | None = None,
        normalization: Literal["global", "local"] = "global",
        chunked: bool | Literal["auto"] | Chunking = "auto",
        labels: Literal["auto", "causal", "aligned", "none"] = "auto",
        ignore_index: int = IGNORE_INDEX,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(student, StudentRecipe):
            check_network("student", student)
            check_shared(student, teacher)
        check_teacher(teacher)
        self.save_hyperparameters(ignore=[] if from_config() else LIVE_ARGUMENTS)
        label_format = LabelFormat(labels, ignore_index)
        self.setup_distillation(
            objective, as_teacher(teacher), normalization, chunked, label_format
        )
        self.setup_optimizers(optimizer, lr_scheduler, lr_scheduler_config)  # type: ignore[arg-type]
        networks = [] if self.teacher is None else self.teacher.networks()
        network = networks[0] if networks else None
        self.student = student.build(network) if isinstance(student, StudentRecipe) else student
        self.rebuilding = {"student": rebuild_config(student)}
        objective.bind(self.student, network)
        if temperature is None:
            temperature = float(getattr(objective, "temperature", 1.0))
        self.metrics = DistillationMetrics(temperature=temperature)

    def student_logits(self, batch: Any) -> Logits:
        """Return the student's logits for ``batch``, ``(..., V)``."""
        return call_network(self.student, batch)

    def learners(self) -> dict[str, tuple[nn.Module, Objective]]:
        """Return the student and its objective."""
        return {STUDENT: (self.student, self.objective)}

    def parameter_groups(self) -> dict[str, Groups]:
        """Return one group for the student and one for the objective."""
        return {
            "student": [{"params": trainable(self.student)}],
            "objective": [{"params": trainable(self.objective)}],
        }

    def parts(self) -> dict[str, Any]:
        """Return ``student``, ``teacher`` and ``objective``."""
        networks = [] if self.teacher is None else self.teacher.networks()
        teacher = networks[0] if len(networks) == 1 else self.teacher
        return {"student": self.student, "teacher": teacher, "objective": self.objective}

    def student_network(self) -> nn.Module:
        """Return ``student``."""
        return self.student

    def feature_network(self) -> nn.Module:
        """Return ``student``."""
        return self.student

    def prepare_run(self) -> None:
        """Check that the parts fit, and prepare the teacher."""
        check_shared(self.student, self.teacher)
        check_fit(self.objective, self.student, self.teacher, self.trainer.datamodule)
        check_strategy(self.trainer.strategy, self.teacher, self.normalization, self.student)
        super().prepare_run()
