"""Distillation for an existing LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.modules.base import DistillationBase
from kdlight.modules.checkpoint_metadata import checkpoint_metadata, describe_run
from kdlight.modules.fit_checks import check_fit, check_optimized, check_strategy
from kdlight.modules.label_format import LabelFormat
from kdlight.modules.mixin_checks import check_attributes, check_bases
from kdlight.modules.own_step import call_own_step, loss_and_logits
from kdlight.modules.part_checks import check_teacher
from kdlight.modules.running_statistics import kept_running_statistics
from kdlight.modules.step_driver import STUDENT, TASK
from kdlight.objectives import Objective
from kdlight.reduce import Chunking
from kdlight.teachers import Teacher, as_teacher, check_shared

if TYPE_CHECKING:
    from typing_extensions import Self


class DistillationMixin(DistillationBase):
    r"""Adds a teacher to a LightningModule that keeps its data, optimizer, validation and metrics.

    Write it before the module among the bases, define `student_logits`, and call `distill` before
    the fit. The module's own ``training_step`` is called unchanged, and the objective is added to
    its loss:

    .. math:: L = w_{task} \cdot training\_step(batch) + objective(student, teacher, labels)

    The gradient of an optimizer step is that of one big batch, as with
    `kdlight.DistillationModule`. The mean of ``training_step`` is weighted by the number of units,
    such as samples or tokens, that the objective counts in the micro-batch. The result of a step is
    logged as ``distillation/...``. Override `student_logits`, `teacher_logits`, `aligned_labels` or
    `extra_loss` for other batches, networks or terms.

    There are two forward passes of the student, in ``training_step`` and in `student_logits`; batch
    normalization counts the batch once. There is one if ``training_step`` returns a dict with
    ``loss`` and ``logits``: then these are the student's logits. There is also one with
    ``task_weight=0`` and a `kdlight.Weighted` objective that contains a
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

    log_prefix = "distillation"
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
        labels: Literal["auto", "causal", "aligned", "none"] = "auto",
        ignore_index: int = IGNORE_INDEX,
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
            labels: see `kdlight.DistillationModule`.
            ignore_index: see `kdlight.DistillationModule`.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: the module has an attribute of a name that the mixin uses; ``task_weight``
                is negative.
        """
        if not 0 <= task_weight < inf:
            raise ValueError(f"task_weight must be 0 or above and finite, got {task_weight}")
        if not self.is_set_up:
            check_attributes(self, DistillationMixin)
        check_teacher(teacher)
        self._check_shared(teacher)
        wrapped = as_teacher(teacher)
        label_format = LabelFormat(labels, ignore_index)
        self.setup_distillation(objective, wrapped, normalization, chunked, label_format)
        self.task_weight = float(task_weight)
        networks = [] if wrapped is None else wrapped.networks()
        objective.bind(self, networks[0] if networks else None)
        return self

    def student_network(self) -> nn.Module:
        """Return the network of the module: its only child with parameters.

        Raises:
            ValueError: there are several, or none; then define this method.
        """
        children = {
            name: child
            for name, child in self.named_children()
            if child is not getattr(self, "objective", None)
            and any(True for _ in child.parameters())
        }
        if len(children) != 1:
            raise ValueError(
                f"{type(self).__name__} has {sorted(children) or 'no modules'} with parameters, and"
                " one of them is needed as the student's network; define"
                " student_network(self), which returns it"
            )
        return next(iter(children.values()))

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the scaled loss of one micro-batch: the objective's plus the module's own."""
        if not self.trainer.training:  # a validation step may call the training step
            return super().training_step(*args, **kwargs)
        batch = args[0] if args else next(iter(kwargs.values()))
        if not self.task_weight:
            return self.scaled_loss(self.learner_losses(batch), batch=batch)
        with self.capture_features() as features:
            output = call_own_step(super().training_step, *args, **kwargs)
            if output is None:  # which skips the batch
                return None
            loss, logits = loss_and_logits(output)
            both = None if logits is None else self._logits(batch, logits)
        if both is None:
            with kept_running_statistics(self):
                losses = self.learner_losses(batch)
        else:
            inputs = self.make_loss_inputs(batch, *both, features)
            losses = {STUDENT: (self.objective(inputs), inputs)}
        task = {TASK: (self.task_weight, loss)}
        total = self.scaled_loss(losses, batch=batch, task=task)
        if not isinstance(output, Mapping):
            return total
        return {**{k: v for k, v in output.items() if k != "logits"}, "loss": total}

    def prepare_run(self) -> None:
        """Check that distillation is set up, and that the parts fit."""
        stage = self.trainer.state.fn
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
        if getattr(self.trainer.strategy, "divide_head", False):
            raise ValueError(
                f"divide_head=True has no effect on {type(self).__name__}, which shards its network"
                " itself: call kdlight.distributed.shard(network, self.device_mesh,"
                " divide_head=True) in its configure_model, and leave divide_head out of the"
                " strategy"
            )
        if self.is_set_up:
            self._check_shared(self.teacher)
            datamodule = self.trainer.datamodule
            check_fit(self.objective, self, self.teacher, datamodule)
            check_strategy(self.trainer.strategy, self.teacher, self.normalization, self)
        super().prepare_run()

    def describe_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add a description of the run."""
        parts = {"student": self.known_student(), "objective": self.objective}
        run = describe_run({**parts, "teacher": self.teacher}, {}, self._trainer)
        checkpoint["kdlight"] = checkpoint_metadata(run)

    def _check_shared(self, teacher: Any) -> None:
        network = self.known_student()  # the module itself may hold the teacher, too
        if network is not None:
            check_shared(network, teacher)

    def check_optimizers(self) -> None:
        """Check that an optimizer has the parameters of the objective."""
        check_optimized(self.objective, self.trainer.optimizers, self.trainer.strategy)
