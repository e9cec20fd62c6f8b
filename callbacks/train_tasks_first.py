"""Train on earlier tasks before the distillation on a new one starts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from kdlight.callbacks.train_teacher_first import TrainTeacherFirst
from kdlight.checks import check_instance, check_integer, check_type
from kdlight.distributed.whole import keeps_networks_whole
from kdlight.modules.base import DistillationBase
from kdlight.teachers import FrozenTeacher, TeacherEnsemble


class TrainTasksFirst(Callback):
    """Makes the teachers of continual learning: one network after each of its earlier tasks.

    The teachers are those of a `kdlight.TeacherEnsemble`. The first learns its task from the
    labels. Each one that follows starts from the weights of the one before and learns its own task,
    and so does the student, which starts from the last: the fit is its next task. The teachers know
    what the student would otherwise forget. All of them have the same layers.

    Every rank trains on the same data from the same seed. A resumed run trains the teachers again,
    and the student has the weights of the checkpoint. Choose it for networks that train in seconds,
    so that a config is complete; load larger ones from checkpoints instead.

    Args:
        tasks: the data module of the task of each teacher, by its name in the ensemble, in the
            order of the tasks. Their training batches are like those of the fit.
        epochs: passes over the data of each task, at least 1; or a number for each by its name.
        lr: learning rate of AdamW, above 0; decays linearly to 0 in each task.
        seed: seed of the order of the data and of dropout.

    Raises:
        TypeError: An argument of another kind.
        ValueError: A number outside its range; when a fit is set up: a teacher that is no ensemble,
            teachers or a student that do not have the same layers, or a strategy that shards the
            student.

    Example:
        >>> from kdlight.data import DigitsDataModule
        >>> TrainTasksFirst({"previous": DigitsDataModule(train_classes=[0, 1])}, epochs=0)
        Traceback (most recent call last):
        ValueError: epochs must be at least 1, got 0
    """

    def __init__(
        self,
        tasks: dict[str, LightningDataModule],
        epochs: int | dict[str, int] = 10,
        lr: float = 2e-3,
        seed: int = 0,
    ) -> None:
        check_type("tasks", tasks, dict, "a dict of data modules")
        if not tasks:
            raise ValueError("tasks must have at least one task, got none")
        for name, data in tasks.items():
            check_instance(f"tasks[{name!r}]", data, LightningDataModule)
        named = epochs if isinstance(epochs, dict) else dict.fromkeys(tasks, epochs)
        if set(named) != set(tasks):
            raise ValueError(f"epochs must have the names of the tasks {[*tasks]}, got {[*named]}")
        for name, each in named.items():
            check_integer(f"epochs[{name!r}]" if named is epochs else "epochs", each, 1)
        self.tasks = dict(tasks)
        self._training = {name: TrainTeacherFirst(named[name], lr, seed) for name in tasks}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are teachers to train, and that the student can go on from the last."""
        if stage != "fit":
            return
        teachers = _networks(pl_module)
        if teachers is None or set(teachers) != set(self.tasks):
            raise ValueError(
                f"TrainTasksFirst trains the teachers {[*self.tasks]}, but needs a"
                " kdlight.DistillationModule, or a module with the kdlight.DistillationMixin, whose"
                " teacher is a kdlight.TeacherEnsemble of networks with these names, got"
                f" {'no such teacher' if teachers is None else [*teachers]}"
            )
        assert isinstance(pl_module, DistillationBase)
        strategy = trainer.strategy
        if not keeps_networks_whole(strategy):
            raise ValueError(
                f"TrainTasksFirst gives the student new weights, but {type(strategy).__name__}"
                " shards it; use one device or strategy='ddp'"
            )
        student = _sizes(pl_module.student_network())
        for name, network in teachers.items():
            if _sizes(network) != student:
                raise ValueError(
                    f"the teacher {name!r} and the student must have the same layers, as one starts"
                    " from the weights of the other, but their weights differ in names or sizes"
                )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the teachers, and give the student the weights of the last."""
        assert isinstance(pl_module, DistillationBase)
        teachers = _networks(pl_module)
        assert teachers is not None
        weights: dict[str, Any] | None = None
        for name, data in self.tasks.items():
            if trainer.is_global_zero:
                data.prepare_data()
            trainer.strategy.barrier()
            data.setup("fit")
            if weights is not None:
                teachers[name].load_state_dict(weights)
            rank_zero_info(f"TrainTasksFirst: {name}")
            self._training[name].train(teachers[name], trainer, pl_module, data)
            weights = teachers[name].state_dict()
        assert weights is not None
        if trainer.ckpt_path is None and not trainer.global_step:
            pl_module.student_network().load_state_dict(weights)


def _networks(module: LightningModule) -> dict[str, nn.Module] | None:
    """Return the networks of the ensemble by name, or None where there is none."""
    teacher = getattr(module, "teacher", None)
    if not isinstance(module, DistillationBase) or not isinstance(teacher, TeacherEnsemble):
        return None
    networks = {
        name: each.model
        for name, each in teacher.by_name.items()
        if isinstance(each, FrozenTeacher)
    }
    return {name: each for name, each in networks.items() if isinstance(each, nn.Module)}


def _sizes(network: nn.Module) -> dict[str, Any]:
    return {name: each.shape for name, each in network.state_dict().items()}
