"""What happens at each point of a distillation run, from the first batch to the last step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kdlight.distributed.batches import check_training_batches
from kdlight.distributed.ranks import (
    average_gradients,
    copy_from_first_rank,
    data_parallel_size,
)
from kdlight.modules.gradient_normalizer import GradientNormalizer, StepResult
from kdlight.modules.guards import check_finite, check_gradients, check_sharded
from kdlight.modules.lookahead import announce_next_batch
from kdlight.modules.returned_loss import ReturnedLoss
from kdlight.modules.run_networks import (
    compare_at_next_batch,
    set_train_mode,
    warn_about_padding,
    whole_networks,
)
from kdlight.modules.server_errors import has_as_many_batches
from kdlight.objectives.hyperparameters import logged_hyperparameters

STUDENT = "student"
"""The name of the student among the networks that a module trains."""

TASK = "task"
"""The part of a `StepResult` that is the loss of a module's own training step."""


class StepDriver:
    """Normalizes the gradients of a module once per optimizer step, and logs the result.

    `kdlight.modules.step_hooks.StepHooks` calls its methods, each with the module as its first
    argument.

    Attributes:
        normalizers: accumulate the losses of each network.
        last_step: result of the optimizer step, from the step until the next batch or the end of
            the fit; None while gradients are accumulated.
        loss: the loss that the training step of the module is to return.
        pending: normalizer, loss and inputs of each network, until the backward pass.

    Args:
        normalizers: one for each network that the module trains.
    """

    def __init__(self, normalizers: Mapping[str, GradientNormalizer]) -> None:
        self.normalizers = normalizers
        self.last_step: StepResult | None = None
        self.loss = ReturnedLoss()
        self.pending: list[Any] = []
        self.unit = "sample"
        self._other_steps: dict[str, StepResult] = {}
        self._clock = 0.0
        self._looks_at_batch = False
        self._is_prepared = False

    # ---- the run

    def prepare(self, module: Any) -> None:
        """Prepare the run, unless the module's ``setup`` did."""
        if not self._is_prepared:
            self._is_prepared = True
            module.prepare_run()

    def start_fit(self, module: Any) -> None:
        """Prepare the fit, and forget what an interrupted one left behind."""
        self.prepare(module)
        count = module.trainer.accumulate_grad_batches
        if count < 1:  # which Lightning accepts, and then never takes a step
            raise ValueError(f"accumulate_grad_batches must be at least 1, got {count}")
        self.clear(module)
        self._looks_at_batch = True
        compare_at_next_batch(whole_networks(module))
        for network, _ in module.learners().values():
            if network is not module:  # Lightning sets the mode of the module of the user
                set_train_mode(network)

    def start_training(self, module: Any) -> None:
        """Start with the same objectives on all ranks, which DDP ensures but FSDP2 does not."""
        self.restart_clock(module)
        module.is_first_batch = True  # of the training data
        module.check_optimizers()
        if module.device_mesh is not None:
            networks, objectives = zip(*module.learners().values(), strict=True)
            check_sharded(networks, objectives)
            for objective in objectives:
                copy_from_first_rank(module.trainer, objective.parameters())

    def start_training_epoch(self, module: Any) -> None:
        """Check that all ranks have equally many batches, before one waits for another."""
        check_training_batches(module.trainer)

    def start_batch(self, module: Any, batch: Any) -> None:
        """Forget the last step; at the first batch, look for models that read left padding."""
        self.last_step = None
        self.pending = []
        if self._looks_at_batch:
            self._looks_at_batch = False
            with module.trainer.precision_plugin.forward_context():
                warn_about_padding(whole_networks(module), batch)
        if any("teacher" in objective.needs for _, objective in module.learners().values()):
            announce_next_batch(module.trainer, module.frozen_teacher)

    def finish_run(self, module: Any) -> None:
        """Free the memory of the teacher."""
        self._is_prepared = False
        if module.frozen_teacher is not None:
            module.frozen_teacher.release()

    # ---- the optimizer step

    def check_loss(self, module: Any, loss: Tensor) -> None:
        """Raise an error if ``loss`` is something else than the loss of the training step."""
        self.loss.check(loss, type(module).__name__)
        for normalizer, each, inputs in self.pending:  # a loss without a backward pass counts not
            normalizer.add(each, inputs)
        self.pending = []

    def finish_step(self, module: Any) -> None:
        """Normalize the gradients of the step, once, and offload the teacher if configured."""
        self.loss.clear()
        results = {name: self._finish(module, name) for name in module.learners()}
        self.last_step = results.pop(STUDENT)
        self._other_steps = {name: each for name, each in results.items() if each is not None}
        module.after_normalization()
        if module.frozen_teacher is not None:
            module.frozen_teacher.offload()

    def _finish(self, module: Any, name: str) -> StepResult | None:
        network, objective = module.learners()[name]
        normalizer = self.normalizers[name]
        if normalizer.is_empty:  # a training step that has a loss of its own, or returned None
            return None
        trainer = module.trainer
        if module.device_mesh is not None:
            check_gradients(network)
            average_gradients(trainer, objective.parameters())
        # Lightning divides by the number of micro-batches, the strategy by that of ranks
        averaged = trainer.accumulate_grad_batches * data_parallel_size(trainer)
        result = normalizer.normalize(
            module.trainable_parameters(name),
            averaged_over=averaged,
            divide=module.normalization == "global",
            # the scaler of float16 leaves out a step with such gradients
            may_skip=getattr(trainer.precision_plugin, "scaler", None) is not None,
        )
        loss = result.loss + sum(
            result.parts.get(part, 0.0) for part in (TASK, *module.extra_parts)
        )
        check_finite(trainer, loss, are_gradients_finite=result.is_finite or result.skipped)
        # here, with the values that the step was computed with, before a schedule changes them
        values = {} if trainer.barebones else logged_hyperparameters(objective)
        module.log_dict({self._key(module, name, key): value for key, value in values.items()})
        return result

    def log_step(self, module: Any) -> None:
        """Log the result of an optimizer step, once per step."""
        if self.last_step is None or module.trainer.barebones:  # or still accumulating gradients
            return
        result, now = self.last_step, time.perf_counter()
        for name, each in {STUDENT: result, **self._other_steps}.items():
            module.log(self._key(module, name, "loss"), each.loss, prog_bar=True)
            module.log_dict({self._key(module, name, k): v for k, v in each.parts.items()})
        prefix, seen = module.log_prefix, self.normalizers[STUDENT].seen
        module.log(f"{prefix}/ignored_share", result.ignored)
        module.log(f"{prefix}/{self.unit}s_seen", float(seen))
        speed = result.count / (now - self._clock)
        module.log(f"{prefix}/{self.unit}s_per_second", speed, prog_bar=True)
        self._clock = now

    def clear(self, module: Any) -> None:
        """Forget the losses of an unfinished step."""
        self.last_step = None
        self.pending = []
        self.loss.clear()
        for normalizer in self.normalizers.values():
            normalizer.clear()

    def restart_clock(self, module: Any) -> None:
        """Measure the training speed from now on."""
        self._clock = time.perf_counter()

    # ---- evaluation and checkpoints

    def start_evaluation(self, module: Any) -> None:
        """Prepare the run and the metrics."""
        self.prepare(module)
        module.is_first_batch = True
        teacher = module.frozen_teacher
        is_remote = teacher is not None and teacher.is_remote
        module.evaluates_alike = is_remote and has_as_many_batches(module.trainer)
        if module.trainer.state.fn != "fit":
            compare_at_next_batch(whole_networks(module))
        module.start_evaluation()

    def log_metrics(self, module: Any, stage: str) -> None:
        """Log the metrics of the module, if it has any."""
        module.log_evaluation(stage)

    def save_state(self, module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the state of the normalizers and what the module adds."""
        states = {name: each.state_dict() for name, each in self.normalizers.items()}
        checkpoint["gradient_normalizers"] = states
        module.describe_checkpoint(checkpoint)

    def load_state(self, module: Any, checkpoint: dict[str, Any]) -> None:
        """Load the state of the normalizers."""
        self.clear(module)
        for name, normalizer in self.normalizers.items():
            if name in checkpoint.get("gradient_normalizers", {}):
                normalizer.load_state_dict(checkpoint["gradient_normalizers"][name])

    def _key(self, module: Any, name: str, value: str) -> str:
        return "/".join((module.log_prefix, *([] if name == STUDENT else [name]), value))
