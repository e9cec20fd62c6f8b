"""Train the masks of masked teachers before the distillation starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from math import isfinite
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LinearLR

from kdlight.callbacks.inference.context import inference_context
from kdlight.callbacks.module_check import check_student_logits
from kdlight.callbacks.taught_student import taught_student
from kdlight.callbacks.train_teacher_first import TrainTeacherFirst
from kdlight.callbacks.training_batches import check_datamodule, repeated_batches
from kdlight.checks import check_integer, check_positive, check_type
from kdlight.distributed.ranks import copy_from_first_rank, data_parallel_sum
from kdlight.distributed.whole import keeps_networks_whole
from kdlight.modules import DistillationBase
from kdlight.modules.guards import NonFiniteLossError
from kdlight.objectives import ForwardKL, Loss
from kdlight.sources import Logits, LogitsSource, as_source, detached
from kdlight.teachers import MaskedTeacher, Teacher


class TrainMasksFirst(Callback):
    r"""Trains the masks of all `kdlight.teachers.MaskedTeacher` of a fit, then freezes them.

    .. math:: \min_{m}\; T^2 \operatorname{KL}\bigl(q^T \,\|\, p_m^T\bigr)

    with the predictions q of the student, as it is when the fit starts, and those of the masked
    teacher, :math:`p_m`. Li, Yang et al., "MST-Distill: Mixture of Specialized Teachers for
    Cross-Modal Knowledge Distillation", 2025, stage 2: the masks make a teacher predict what its
    student can. For that the student must know something of its task: in the paper it was trained
    together with its teachers (stage 1, see `kdlight.OnlineDistillationModule`). For a new student,
    whose predictions are the same for all samples, set ``student_steps``.

    The masks are those of the last step, whose learning rate is 0. The authors keep the best on
    validation data after each epoch; with their default of one epoch, these are the last as well.

    All masks get the same batches and are trained independently. Gradients are summed over ranks
    and divided by the number of positions of all of them, so that all ranks have the same masks. A
    run that is resumed does not train them again: they are in the state of this callback. A run
    that only validates has no state of callbacks, and a `MaskedTeacher` says so.

    Args:
        steps: optimizer steps, at least 1; the data are repeated if they are shorter.
        lr: learning rate of AdamW, above 0; decays linearly to 0.
        temperature: T, above 0.
        student_steps: steps in which the student learns from the labels first, at the learning
            rate ``lr``. It gets its weights back once the masks are trained. 0 for none.
        seed: seed of what the data draw at random, and of dropout in the student.

    Raises:
        TypeError: An argument of another kind.
        ValueError: A number outside its range; when a fit is set up: no
            `kdlight.teachers.MaskedTeacher`, a run without a data module, a `TrainTeacherFirst`
            that follows, which would change the teachers under their masks, or ``student_steps``
            with a strategy that shards the student; when it starts: a checkpoint without masks.

    Attributes:
        losses: the loss of each step, the mean over teachers and positions; in a resumed run those
            of the original run.

    Example:
        >>> TrainMasksFirst(steps=0)
        Traceback (most recent call last):
        ValueError: steps must be at least 1, got 0
    """

    def __init__(
        self,
        steps: int = 100,
        lr: float = 1e-3,
        temperature: float = 4.0,
        student_steps: int = 0,
        seed: int = 0,
    ) -> None:
        check_integer("steps", steps, 1)
        check_type("lr", lr, (int, float), "a number")
        check_positive("lr", lr)
        check_positive("temperature", temperature)
        check_integer("student_steps", student_steps, 0)
        check_integer("seed", seed, 0)
        self.steps, self.lr, self.seed = steps, lr, seed
        self.temperature, self.student_steps = float(temperature), student_steps
        self.losses: list[float] = []
        self._teachers: list[MaskedTeacher] = []
        self._is_resumed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are masks to train, and data."""
        if stage != "fit":
            return
        self._is_resumed = False
        teacher = getattr(pl_module, "teacher", None)
        self._teachers = masked_teachers(teacher) if isinstance(teacher, Teacher) else []
        if not isinstance(pl_module, DistillationBase) or not self._teachers:
            raise ValueError(
                "TrainMasksFirst needs a kdlight.DistillationModule, or a module with the"
                " kdlight.DistillationMixin, whose teacher has a kdlight.teachers.MaskedTeacher,"
                f" got a {type(pl_module).__name__} with teacher {type(teacher).__name__}"
            )
        check_student_logits("TrainMasksFirst", pl_module)
        check_datamodule("TrainMasksFirst", trainer)
        if self.student_steps and not keeps_networks_whole(trainer.strategy):
            raise ValueError(
                f"student_steps={self.student_steps} trains the student by itself, which"
                f" {type(trainer.strategy).__name__} cannot, as it shards it; set student_steps=0,"
                " or use one device or strategy='ddp'"
            )
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        later = callbacks[callbacks.index(self) :]
        if any(isinstance(each, TrainTeacherFirst) for each in later):
            raise ValueError(
                "TrainTeacherFirst would change the teachers after TrainMasksFirst has trained"
                " their masks; put it before TrainMasksFirst in the list of callbacks"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the masks of all teachers, in their order, and the losses."""
        masks = [each.state_dict() for each in self._teachers if each.is_trained]
        return {"masks": masks, "losses": list(self.losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the masks and the losses."""
        masks = state_dict["masks"]
        if len(masks) != len(self._teachers):
            raise ValueError(
                f"the checkpoint has the masks of {len(masks)} teachers, but this run has"
                f" {len(self._teachers)} with masks; resume with the teachers that it was made with"
            )
        for each, state in zip(self._teachers, masks, strict=True):
            each.load_state_dict(state)
        self.losses = list(state_dict["losses"])
        self._is_resumed = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the masks, unless the run is resumed or goes on."""
        assert isinstance(pl_module, DistillationBase)
        # under FSDP2, the state of callbacks is restored after this
        goes_on = trainer.global_step and all(each.is_trained for each in self._teachers)
        if self._is_resumed or trainer.ckpt_path is not None or goes_on:
            rank_zero_info("TrainMasksFirst: the masks are those of the checkpoint or run before")
            return
        with isolate_rng(), torch.enable_grad():
            torch.manual_seed(self.seed)
            self.losses = list(self._train(trainer, pl_module))
        for each in self._teachers:
            each.finish()
        rank_zero_info(
            f"TrainMasksFirst: the masks of {len(self._teachers)} teachers trained for"
            f" {self.steps} steps; their mean loss went from {self.losses[0]:.4g} to"
            f" {self.losses[-1]:.4g}"
        )

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that a resumed run has masks."""
        self.on_train_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that a resumed run has masks."""
        if not all(each.is_trained for each in self._teachers):
            raise ValueError(
                "the checkpoint has no masks: it was made without TrainMasksFirst; start a new run,"
                " or load masks by MaskedTeacher.load_state_dict"
            )

    def _train(self, trainer: Trainer, module: DistillationBase) -> Iterator[float]:
        parameters = [p for each in self._teachers for p in each.masks.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        for each in self._teachers:
            each.masks.to(module.device)
        copy_from_first_rank(trainer, parameters)
        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        batches = repeated_batches(trainer, module, loader)
        with taught_student(trainer, module, batches, self.student_steps, self.lr):
            yield from self._steps(trainer, module, parameters, batches)

    def _steps(
        self,
        trainer: Trainer,
        module: DistillationBase,
        parameters: list[nn.Parameter],
        batches: Iterator[Any],
    ) -> Iterator[float]:
        optimizer = AdamW(parameters, lr=self.lr)
        decay = LinearLR(optimizer, 1.0, 0.0, total_iters=self.steps)
        for step, batch in enumerate(islice(batches, self.steps)):
            losses = self._losses(trainer, module, batch)
            total, count = torch.stack([each.total for each in losses]).sum(), losses[0].count
            found = torch.autograd.grad(total, parameters)
            sums = torch.stack([total.detach().double(), count.double()])
            summed, positions = data_parallel_sum(trainer, sums).tolist()
            mean = summed / max(positions, 1) / len(losses)
            if not isfinite(mean):
                raise NonFiniteLossError(
                    f"the loss of step {step} of TrainMasksFirst is {mean}; lower lr={self.lr}"
                )
            for parameter, grad in zip(parameters, found, strict=True):
                parameter.grad = data_parallel_sum(trainer, grad) / max(positions, 1)
            optimizer.step()
            decay.step()
            yield mean
        optimizer.zero_grad()

    def _losses(self, trainer: Trainer, module: DistillationBase, batch: Any) -> list[Loss]:
        """Return the loss of each masked teacher, whose target is the student."""
        objective = ForwardKL(temperature=self.temperature)
        with inference_context(trainer, module):
            target = detached(as_source(module.student_logits(batch)))
        losses = []
        for each in self._teachers:
            with module.outside_of_steps(), _answering(module, each):
                answer, reference = module.teacher_logits(batch), each.mask_student(target)
                assert answer is not None
                losses.append(objective(module.make_loss_inputs(batch, answer, reference)))
        return losses


class _Untrained(Teacher):
    """A masked teacher that answers before its masks are trained, with a graph of them."""

    def __init__(self, masked: MaskedTeacher) -> None:
        self.masked = masked

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        return self.masked.compute(batch)


@contextmanager
def _answering(module: DistillationBase, masked: MaskedTeacher) -> Iterator[None]:
    """Let the module compute the logits of one masked teacher as it computes those of its own."""
    teacher, module.teacher = module.teacher, _Untrained(masked)
    try:
        yield
    finally:
        module.teacher = teacher


def masked_teachers(teacher: Teacher) -> list[MaskedTeacher]:
    """Return the masked teachers within a teacher, each once.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
        >>> len(masked_teachers(MaskedTeacher(network, ["0"])))
        1
    """
    if isinstance(teacher, MaskedTeacher):
        return [teacher]
    found = (each for inner in teacher.teachers() for each in masked_teachers(inner))
    return list(dict.fromkeys(found))
