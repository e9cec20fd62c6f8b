"""The LightningModule: from a batch to a step, and the life of a student and its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlight.logits import Logits, ask
from kdlight.metrics import DistillationMetrics
from kdlight.models import StudentRecipe
from kdlight.modules.evaluated import EvaluatedModule
from kdlight.modules.stamp import check_checkpoint, stamp
from kdlight.modules.taught import TaughtModule
from kdlight.objectives import Objective
from kdlight.reduce import Chunking
from kdlight.sharding import shard
from kdlight.teachers import Teacher, TeacherBase, live_teachers

LIVE_ARGUMENTS = ["student", "teacher", "objective", "optimizer", "lr_scheduler"]


class DistillationModule(TaughtModule, EvaluatedModule):
    """Trains a student on a teacher's logits.

    A student and a teacher are callables from a batch to a logits source (or to a plain tensor of
    logits); the objective sees only the `kdlight.Step` made of them. To put distillation into a
    project of one's own, subclass and override one of `student_logits`, `teacher_logits`,
    `labels`. A LightningModule that is there already takes a `kdlight.DistillationMixin`.

    The gradient of an optimizer step is that of one big batch: a sum over all valid units of all
    micro-batches and ranks, divided once by their number, after unscaling and before clipping.

    Args:
        student: the network that learns, from a batch to logits; or a recipe that builds it from
            the teacher's network, such as `kdlight.CutCausalLM`.
        objective: what it learns on.
        teacher: the network it learns from, which is frozen and held outside the module tree; a
            `kdlight.FrozenTeacher`, a `kdlight.CachedTeacher`, or any other
            `kdlight.teachers.Teacher`; None for objectives that need none.
        optimizer: from parameters (or groups of them) to an optimizer. The objective's own
            parameters, if it has any, come as a second group.
        lr_scheduler: from the optimizer to a learning-rate schedule, stepped once per optimizer
            step.
        normalization: ``"global"``, as above; ``"local"`` divides each micro-batch by its own
            count and averages, as Lightning does by itself.
        chunked: whether logits are made in chunks of tokens, so that they never exist all at once:
            ``"auto"`` decides from their size, and says what it chose; False makes them whole, for
            debugging; a `kdlight.Chunking` has the sizes, and compiles.
        temperature: of the divergences among the validation metrics; None for the objective's own
            where it has one, else 1.

    Raises:
        ValueError: normalization is neither of the two; a recipe without a teacher.

    Example:
        >>> from kdlight import Plain
        >>> from kdlight.objectives import ForwardKL
        >>> module = DistillationModule(
        ...     student=Plain(nn.Linear(4, 3)), teacher=Plain(nn.Linear(4, 3)),
        ...     objective=ForwardKL(temperature=2.0),
        ... )
        >>> sorted({name.split(".")[0] for name, _ in module.named_parameters()})
        ['student']
    """

    def __init__(
        self,
        student: nn.Module | StudentRecipe,
        objective: Objective,
        teacher: nn.Module | TeacherBase | Teacher | None = None,
        optimizer: Callable[[Iterable], Optimizer] = lambda p: AdamW(p, lr=5e-4),
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        normalization: Literal["global", "local"] = "global",
        chunked: bool | Literal["auto"] | Chunking = "auto",
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        # a config file gives plain data for live objects, which reloads; live objects do not
        from_config = _given_hyperparameters.get() is not None
        self.save_hyperparameters(ignore=[] if from_config else LIVE_ARGUMENTS)
        self.learn_from(teacher, objective, normalization, chunked)
        if isinstance(student, StudentRecipe):
            live = live_teachers(self.teacher)
            student = student.build(live[0].model if live else None)
        self.student = student
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        if temperature is None:
            temperature = float(getattr(objective, "temperature", 1.0))
        self.metrics = DistillationMetrics(temperature=temperature)

    def student_logits(self, batch: Any) -> Logits:
        """Logits of the student for ``batch``, ``(..., V)``."""
        return ask(self.student, batch)

    def learners(self) -> dict[str, tuple[nn.Module, Objective]]:
        """The student, and what it learns on."""
        return {"": (self.student, self.objective)}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one micro-batch, as a sum scaled by a constant power of two."""
        return self.account(self.losses(batch))

    # ---- lifecycle

    def configure_model(self) -> None:
        """Under FSDP2, shard the student, and the teacher if it asks for it; once."""
        super().configure_model()
        if self.device_mesh is not None:
            shard(self.student, self.device_mesh)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what the run is, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["kdlight"] = stamp(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See that the checkpoint is one of such a run."""
        check_checkpoint(checkpoint, self)
        super().on_load_checkpoint(checkpoint)

    def on_fit_start(self) -> None:
        """Hugging Face hands models out in eval mode, which would switch dropout off silently."""
        if not self.student.training:
            self.student.train()

    def configure_optimizers(self) -> Any:
        """One group for the student, one for the objective's own parameters if it has any."""
        groups = [
            {"params": [p for p in module.parameters() if p.requires_grad]}
            for module in (self.student, self.objective)
        ]
        optimizer = self.optimizer([group for group in groups if group["params"]])
        if self.lr_scheduler is None:
            return optimizer
        schedule = {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}
