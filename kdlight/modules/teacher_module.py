"""A LightningModule with a teacher: prepared before a run, and sharded where the student is."""

from __future__ import annotations

from typing import Any

from kdlight.modules.host_log import HostLog
from kdlight.teachers import Teacher


class TeacherModule(HostLog):
    """Moves a teacher to the device of a run, which is held outside of the module tree.

    Attributes:
        teacher: no `torch.nn.Module`, so that no optimizer, checkpoint or strategy has its weights.

    Example:
        >>> import torch
        >>> from kdlight import FrozenTeacher
        >>> module = TeacherModule()
        >>> module.teacher = FrozenTeacher(torch.nn.Linear(2, 3))
        >>> module.frozen_teacher is module.teacher, list(module.parameters())
        (True, [])
    """

    teacher: Any  # without a value, which would hide a network of this name

    @property
    def frozen_teacher(self) -> Teacher | None:
        """The teacher, unless it is a network that is trained, too."""
        teacher = getattr(self, "teacher", None)
        return teacher if isinstance(teacher, Teacher) else None

    def prepare_run(self) -> None:
        """Move the teacher to the device of the run.

        `setup` calls this. Where a subclass overrides `setup` without ``super()``, it is called
        before the first batch.
        """
        if self.frozen_teacher is not None:
            self.frozen_teacher.prepare(self.trainer.strategy.root_device)

    def configure_model(self) -> None:
        """Under FSDP2, shard the teacher if configured; once."""
        super().configure_model()
        if self.device_mesh is not None and self.frozen_teacher is not None:
            self.frozen_teacher.distribute(self.device_mesh)
