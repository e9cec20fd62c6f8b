"""Distillation for an existing LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from kdlight.modules.base import STUDENT, TASK, DistillationBase
from kdlight.modules.fit_checks import check_fit, check_optimized, check_strategy
from kdlight.modules.mixin_checks import check_attributes, check_bases
from kdlight.objectives import Objective
from kdlight.reduce import Chunking
from kdlight.teachers import Teacher, as_teacher

if TYPE_CHECKING:
    from typing_extensions import Self


class DistillationMixin(DistillationBase):
    r"""Adds a teacher to a LightningModule that keeps its data, optimizer, validation and metrics.

    Write it before the module among the bases, define `student_logits`, and call `distill` before
    the fit. The module's own ``training_step`` is called unchanged, and the objective is added to
    its loss:

    .. math:: L = w_{task} \cdot training\_step(batch) + objective(student, teacher, labels)

    The gradient of an optimizer step is that of one big batch, as with
    `kdlight.DistillationModule`, which has the same methods `student_logits`, `teacher_logits` and
    `labels` to override. The mean of ``training_step`` is weighted by the number of units, such as
    samples or tokens, that the objective counts in the micro-batch. The result of a step is logged
    as ``distillation/...``. There are two forward passes of the student. To save one, set
    ``task_weight=0`` and use a `kdlight.Weighted` objective that contains a
    `kdlight.objectives.CrossEntropy`.

    Checkpoints contain no teacher. The module without the mixin can load them, with
    ``strict=False`` if the objective has a state, such as `kdlight.objectives.TAID`.

    Raises:
        TypeError: the mixin comes after the module among the bases, or the module uses a name of
            the mixin for something else.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> from kdlight.objectives import ForwardKL
        >>> class OwnModule(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = nn.Linear(4, 3)
        ...     def training_step(self, batch, batch_idx):
        ...         return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        >>> class Distilled(DistillationMixin, OwnModule):
        ...     def student_logits(self, batch):
        ...         return self.net(batch[0])
        ...     def teacher_logits(self, batch):
        ...         return self.teacher(batch[0])
        >>> module = Distilled().distill(ForwardKL(temperature=2.0), nn.Linear(4, 3))
        >>> [name for name, _ in module.named_parameters()]
        ['net.weight', 'net.bias']
    """

    prefix = "distillation"
    task_weight: float

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_bases(cls, DistillationMixin)

    def distill(
        self,
        objective: Objective,
        teacher: nn.Module | Teacher | None = None,
        *,
        task_weight: float = 1.0,
        normalization: Literal["global", "local"] = "global",
        chunked: bool | Literal["auto"] | Chunking = "auto",
    ) -> Self:
        """Set the objective and the teacher of the fits that follow, and return the module.

        Args:
            objective: the loss.
            teacher: a network, which is frozen and held outside of the module tree, or any
                `kdlight.teachers.Teacher`; None for objectives that need none.
            task_weight: weight of the loss of the module's own ``training_step``, which is not
                called if it is 0.
            normalization: see `kdlight.DistillationModule`.
            chunked: see `kdlight.DistillationModule`.

        Raises:
            ValueError: the module has an attribute of a name that the mixin uses; ``task_weight``
                is negative.
        """
        if not task_weight >= 0:
            raise ValueError(f"task_weight must be 0 or above, got {task_weight}")
        if not self.is_set_up:
            check_attributes(self, DistillationMixin)
        self.task_weight = float(task_weight)
        self.setup_distillation(objective, as_teacher(teacher), normalization, chunked)
        networks = [] if self.teacher is None else self.teacher.networks()
        objective.bind(self, networks[0] if networks else None)
        return self

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Compute the scaled loss of one micro-batch: the objective's plus the module's own."""
        own_step = super().training_step
        arguments = (batch, batch_idx)[: len(signature(own_step).parameters)]
        if not self.trainer.training:  # a validation step may call the training step
            return own_step(*arguments)
        losses = self.losses(batch)
        if not self.task_weight:
            return self.scaled_loss(losses)
        output = own_step(*arguments)
        loss, inputs = losses[STUDENT]
        task = _loss_of(output) * loss.count
        losses[STUDENT] = loss._replace(parts={**loss.parts, TASK: task.detach()}), inputs
        total = self.scaled_loss(losses, task=self.task_weight * task)
        return {**output, "loss": total} if isinstance(output, Mapping) else total

    def setup(self, stage: str) -> None:
        """Check that distillation is set up, and that the parts fit."""
        if stage == "fit" and not self.is_set_up:
            raise ValueError(
                f"{type(self).__name__} has no objective and no teacher: distillation is not set"
                " up; call distill(objective, teacher) before the fit"
            )
        if stage == "fit" and not self.automatic_optimization:
            raise ValueError(
                f"{type(self).__name__} uses manual optimization (automatic_optimization is False),"
                " where the mixin cannot normalize gradients; call a kdlight.GradientNormalizer in"
                " your training_step instead of using the mixin"
            )
        if self.is_set_up:
            datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
            check_fit(self.objective, self, self.teacher, datamodule)
            check_strategy(self.trainer.strategy, self.teacher, self.normalization)
        super().setup(stage)

    def on_train_start(self) -> None:
        """Check that an optimizer has the parameters of the objective."""
        super().on_train_start()
        check_optimized(self.objective, self.trainer.optimizers, self.trainer.strategy)


def _loss_of(output: Any) -> Tensor:
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"the training_step of the module returned {output!r}, and the objective is added to"
            " its loss: return a tensor, or a dict with 'loss', or call distill(..., task_weight=0)"
        )
    return loss
