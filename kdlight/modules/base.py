"""The base of all distillation modules: one denominator per optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from kdlight.checkpoints import check_before_loading
from kdlight.checks import check_choice
from kdlight.distributed.ranks import data_parallel_sum, reduce_over_data_parallel_ranks
from kdlight.distributed.sharding import clip_norm
from kdlight.models.rotary_frequencies import kept_frequencies
from kdlight.modules.extra_terms import Terms, named_terms, with_terms
from kdlight.modules.gradient_normalizer import GradientNormalizer, StepResult
from kdlight.modules.inputs import LossInputsModule
from kdlight.modules.label_format import LabelFormat
from kdlight.modules.part_checks import check_parts
from kdlight.modules.step_driver import STUDENT, StepDriver
from kdlight.modules.step_hooks import attach_step_hooks
from kdlight.modules.teacher_shares import with_shares
from kdlight.objectives import Loss, LossInputs, Objective
from kdlight.reduce import Chunked
from kdlight.teachers import Teacher


class DistillationBase(LossInputsModule):
    """Trains one network or several on objectives, and normalizes gradients once per step.

    What happens in a step is driven by a callback, `kdlight.modules.step_hooks.StepHooks`, which
    the module adds to its trainer. So a subclass may override any hook of Lightning, with or
    without ``super()``.

    Attributes:
        normalization: ``"global"`` or ``"local"``.
        step_driver: normalizes and logs; None until distillation is set up.
        extra_parts: names of the terms of `extra_loss`.

    Example:
        >>> from kdlight import DistillationMixin, DistillationModule
        >>> [issubclass(each, DistillationBase) for each in (DistillationMixin, DistillationModule)]
        [True, True]
    """

    normalization: Literal["global", "local"] = "global"
    step_driver: StepDriver | None = None
    extra_parts: tuple[str, ...] = ()

    @property
    def is_set_up(self) -> bool:
        """Whether there is an objective, see `setup_distillation`."""
        return self.step_driver is not None

    @property
    def last_step(self) -> StepResult | None:
        """The result of the optimizer step, until the next batch; None while accumulating."""
        return None if self.step_driver is None else self.step_driver.last_step

    def setup_distillation(
        self,
        objective: Objective,
        teacher: Teacher | None,
        normalization: Literal["global", "local"],
        chunked: Chunked,
        label_format: LabelFormat,
    ) -> None:
        """Set the objective and the teacher of the fits that follow."""
        check_choice("normalization", normalization, ("global", "local"))
        check_parts(objective, chunked)
        self.objective, self.teacher = objective, teacher
        self.normalization, self.chunked = normalization, chunked
        self.label_format = label_format
        self._set_normalizers(STUDENT)

    def _set_normalizers(self, *names: str) -> None:
        normalizers = {name: GradientNormalizer(self._sum_over_ranks) for name in names}
        self.step_driver = StepDriver(normalizers)

    # ---- the trainer

    @property
    def trainer(self) -> Any:
        """The trainer that the module is attached to."""
        return LightningModule.trainer.fget(self)  # type: ignore[attr-defined]

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]
        attach_step_hooks(trainer)

    # ---- from the losses of a batch to the gradients of a step

    def learners(self) -> dict[str, tuple[nn.Module, Objective]]:
        """Return the networks that are trained and their objectives, by name."""
        return {STUDENT: (self, self.objective)}

    def trainable_parameters(self, name: str) -> list[nn.Parameter]:
        """Return what is trained on one objective; the student has all that no other one has."""
        if name != STUDENT:
            return [p for part in self.learners()[name] for p in part.parameters()]
        others = [other for other in self.learners() if other != STUDENT]
        taken = {id(p) for other in others for p in self.trainable_parameters(other)}
        return [p for p in self.parameters() if id(p) not in taken]

    def learner_losses(self, batch: Any) -> dict[str, tuple[Loss, LossInputs]]:
        """Compute the loss of each network, together with what it was evaluated on."""
        inputs = self.loss_inputs(batch)
        return {STUDENT: (self.objective(inputs), inputs)}

    def extra_loss(self, batch: Any) -> Tensor | Mapping[str, Tensor] | None:
        """Return further terms of the student's loss, each the mean over ``batch``; or None.

        Override it to add a term: a tensor, or several by name. They are added to the objective
        with the weight that they have, and logged by name (``extra`` for a tensor). The mean over
        an optimizer step weighs each micro-batch by the number of units that the objective counts
        in it, as if it were one batch. Return the same names for every batch.
        """
        return None

    def scaled_loss(
        self,
        losses: Mapping[str, tuple[Loss, LossInputs]],
        *,
        batch: Any,
        task: Terms | None = None,
    ) -> Tensor:
        """Add up the losses of one micro-batch, each scaled for the backward pass.

        Args:
            losses: the loss of each network, with its inputs.
            batch: the batch, for `extra_loss`.
            task: further terms of the student by name, each with a weight and the mean over the
                batch. Like `extra_loss`, they are parts of the result of a step, but not of the
                objective's loss.
        """
        assert self.step_driver is not None
        # Lightning's finders replace all callbacks for a while, and look for theirs at the start
        attach_step_hooks(self._trainer, first=False)
        terms = {**named_terms(self.extra_loss(batch)), **(task or {})}
        if self._trainer is not None and not self._trainer.training:
            # a validation step that calls the training step: nothing is trained
            means = [self._mean(name, loss, terms) for name, (loss, _) in losses.items()]
            return sum(means[1:], means[0])
        self.extra_parts = tuple(terms)
        scaled, pending = [], []
        for name, (loss, inputs) in losses.items():
            if name == STUDENT:
                unit = self.objective.unit
                self.step_driver.unit = inputs.position_name if unit == "token" else unit
                loss, total = with_terms(with_shares(loss, inputs), terms)
            else:
                total = loss.total
            normalizer = self.step_driver.normalizers[name]
            pending.append((normalizer, loss, inputs))
            if self.normalization == "local":
                scaled.append(loss._replace(total=total).mean())
            else:
                scaled.append(total * normalizer.scale(loss.count))
        self.step_driver.pending = pending
        return self.step_driver.loss.remember(sum(scaled[1:], scaled[0]))

    def _mean(self, name: str, loss: Loss, terms: Terms) -> Tensor:
        total = with_terms(loss, terms)[1] if name == STUDENT else loss.total
        return loss._replace(total=total).mean()

    def after_normalization(self) -> None:
        """Change the normalized gradients of a step; called before they are clipped."""

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip like Lightning, but under FSDP2 by the norm of all gradients, sharded or not."""
        by_norm = gradient_clip_algorithm != "value"
        if self.device_mesh is not None and gradient_clip_val and by_norm:
            clip_norm(self.parameters(), gradient_clip_val)
        else:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )

    def check_optimizers(self) -> None:
        """Check the optimizers before the first step."""

    # ---- evaluation

    def start_evaluation(self) -> None:
        """Count data once that several ranks of a sharded network have."""
        reduce_over_data_parallel_ranks(self.trainer, self)

    def log_evaluation(self, stage: str) -> None:
        """Log the metrics, after the last batch."""

    # ---- runs and checkpoints

    def _apply(self, fn: Any, recurse: bool = True) -> DistillationBase:
        with kept_frequencies(self):  # Lightning casts the module under "bf16-true"
            return super()._apply(fn, recurse)

    def setup(self, stage: str) -> None:
        """Check that the parts fit before any work is done, and prepare the teacher."""
        super().setup(stage)
        check_before_loading(self.trainer.strategy)
        if self.step_driver is not None:
            self.step_driver.prepare(self)
        elif stage == "fit":
            self.prepare_run()

    def describe_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add a description of the run to a checkpoint."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the normalizers."""
        super().on_save_checkpoint(checkpoint)
        if self.step_driver is not None:
            self.step_driver.save_state(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the state of the normalizers."""
        super().on_load_checkpoint(checkpoint)
        if self.step_driver is not None:
            self.step_driver.load_state(self, checkpoint)

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        return data_parallel_sum(self.trainer, values)
