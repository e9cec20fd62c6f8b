"""The base of all distillation modules: one denominator per optimizer step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from kdlight.distributed.batches import check_training_batches
from kdlight.distributed.ranks import (
    average_gradients,
    copy_from_first_rank,
    data_parallel_size,
    data_parallel_sum,
    reduce_over_data_parallel_ranks,
)
from kdlight.distributed.sharding import clip_norm
from kdlight.modules.gradient_normalizer import GradientNormalizer, StepResult
from kdlight.modules.guards import check_finite, check_gradients
from kdlight.modules.inputs import LossInputsModule
from kdlight.objectives import Loss, LossInputs, Objective
from kdlight.objectives.hyperparameters import logged_hyperparameters
from kdlight.reduce import Chunked
from kdlight.teachers import Teacher

STUDENT = "student"
"""The name of the student among the networks that a module trains."""

TASK = "task"
"""The part of a `StepResult` that is the loss of a module's own training step."""


class DistillationBase(LossInputsModule):
    """Trains one network or several on objectives, and normalizes gradients once per step.

    Every hook also calls the next class, which may be a LightningModule of the user.

    Attributes:
        normalization: ``"global"`` or ``"local"``.
        last_step: the result of the optimizer step, from the step until the end of its last batch,
            when callbacks read it; None while gradients are accumulated.

    Example:
        >>> from kdlight import DistillationMixin, DistillationModule
        >>> [issubclass(each, DistillationBase) for each in (DistillationMixin, DistillationModule)]
        [True, True]
    """

    normalization: Literal["global", "local"] = "global"
    last_step: StepResult | None = None
    _normalizers: Mapping[str, GradientNormalizer] = {}  # until distillation is set up

    @property
    def is_set_up(self) -> bool:
        """Whether there is an objective, see `setup_distillation`."""
        return bool(self._normalizers)

    def setup_distillation(
        self,
        objective: Objective,
        teacher: Teacher | None,
        normalization: Literal["global", "local"],
        chunked: Chunked,
    ) -> None:
        """Set the objective and the teacher of the fits that follow."""
        if normalization not in ("global", "local"):
            raise ValueError(f"normalization must be 'global' or 'local', got {normalization!r}")
        self.objective, self.teacher = objective, teacher
        self.normalization, self.chunked = normalization, chunked
        self.last_step = None
        self._normalizers = {STUDENT: GradientNormalizer(self._sum_over_ranks)}
        self._other_steps: dict[str, StepResult] = {}
        self._clock, self._unit = 0.0, objective.unit

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

    def losses(self, batch: Any) -> dict[str, tuple[Loss, LossInputs]]:
        """Compute the loss of each network, together with what it was evaluated on."""
        inputs = self.loss_inputs(batch)
        return {STUDENT: (self.objective(inputs), inputs)}

    def scaled_loss(
        self, losses: Mapping[str, tuple[Loss, LossInputs]], *, task: Tensor | None = None
    ) -> Tensor:
        """Add up the losses of one micro-batch, each scaled for the backward pass.

        ``task`` is added to the student's loss before it is scaled, but is not part of its result.
        """
        scaled = []
        for name, (loss, inputs) in losses.items():
            normalizer = self._normalizers[name]
            normalizer.add(loss, inputs)
            if name == STUDENT:
                unit = self.objective.unit
                self._unit = inputs.position_name if unit == "token" else unit
            if task is not None and name == STUDENT:
                loss = loss._replace(total=loss.total + task)
            if self.normalization == "local":
                scaled.append(loss.mean())
            else:
                scaled.append(loss.total * normalizer.scale(loss.count))
        return sum(scaled[1:], scaled[0])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Normalize the gradients of the step, once."""
        results = {name: self._finish_step(name) for name in self.learners()}
        self.last_step = results.pop(STUDENT)
        self._other_steps = results
        super().on_before_optimizer_step(optimizer)  # which gets the gradients of the step

    def _finish_step(self, name: str) -> StepResult:
        network, objective = self.learners()[name]
        if self.device_mesh is not None:
            check_gradients(network)
            average_gradients(self.trainer, objective.parameters())
        # Lightning divides by the number of micro-batches, the strategy by that of ranks
        averaged = self.trainer.accumulate_grad_batches * data_parallel_size(self.trainer)
        parameters = self.trainable_parameters(name) if self.normalization == "global" else ()
        result = self._normalizers[name].normalize(parameters, averaged_over=averaged)
        check_finite(self.trainer, result.loss + result.parts.get(TASK, 0.0))
        # here, with the values that the step was computed with, before a schedule changes them
        values = logged_hyperparameters(objective)
        self.log_dict({self._key(name, key): value for key, value in values.items()})
        return result

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

    # ---- other hooks

    def on_train_start(self) -> None:
        """Start with the same objectives on all ranks, which DDP ensures but FSDP2 does not."""
        super().on_train_start()
        self._clock = time.perf_counter()
        if self.device_mesh is not None:
            for _, objective in self.learners().values():
                copy_from_first_rank(self.trainer, objective.parameters())

    def on_train_epoch_start(self) -> None:
        """Check that all ranks have equally many batches, before one waits for another."""
        super().on_train_epoch_start()
        check_training_batches(self.trainer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the result of an optimizer step, once per step."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.last_step is None:  # still accumulating gradients
            return
        result, self.last_step = self.last_step, None
        now, unit = time.perf_counter(), self._unit
        for name, each in {STUDENT: result, **self._other_steps}.items():
            self.log(self._key(name, "loss"), each.loss, prog_bar=True)
            self.log_dict({self._key(name, part): value for part, value in each.parts.items()})
        self.log(f"{self.prefix}/ignored_share", result.ignored)
        self.log(f"{self.prefix}/{unit}s_seen", float(self._normalizers[STUDENT].seen))
        speed = result.count / (now - self._clock)
        self.log(f"{self.prefix}/{unit}s_per_second", speed, prog_bar=True)
        self._clock = now

    def on_validation_epoch_start(self) -> None:
        """Count data once that several ranks of a sharded network have."""
        super().on_validation_epoch_start()
        reduce_over_data_parallel_ranks(self.trainer, self)

    def on_test_epoch_start(self) -> None:
        """Count data once that several ranks of a sharded network have."""
        super().on_test_epoch_start()
        reduce_over_data_parallel_ranks(self.trainer, self)

    def on_validation_end(self) -> None:
        """Leave the time of validation out of the training speed."""
        super().on_validation_end()
        self._clock = time.perf_counter()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the normalizers."""
        super().on_save_checkpoint(checkpoint)
        if self.is_set_up:
            states = {name: each.state_dict() for name, each in self._normalizers.items()}
            checkpoint["gradient_normalizers"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the state of the normalizers."""
        super().on_load_checkpoint(checkpoint)
        for name, normalizer in self._normalizers.items():
            if name in checkpoint.get("gradient_normalizers", {}):
                normalizer.load_state_dict(checkpoint["gradient_normalizers"][name])

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        return data_parallel_sum(self.trainer, values)

    def _key(self, name: str, value: str) -> str:
        return "/".join((self.prefix, *([] if name == STUDENT else [name]), value))
