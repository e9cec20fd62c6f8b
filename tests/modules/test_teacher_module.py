"""A teacher is prepared for a run, and is no part of the module that holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kdlight import FrozenTeacher
from kdlight.modules.teacher_module import TeacherModule
from tests.support import toy


class Watched(FrozenTeacher):
    """Remembers the devices that it was prepared for."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 3))
        self.devices: list[torch.device] = []

    def prepare(self, device: torch.device) -> None:
        self.devices.append(device)
        super().prepare(device)


def module(teacher: object) -> TeacherModule:
    made = TeacherModule()
    if teacher is not None:
        made.teacher = teacher
    return made


@pytest.mark.parametrize("teacher", [None, nn.Linear(2, 3), lambda batch: batch])
def test_what_is_no_teacher_is_not_frozen(teacher: object) -> None:
    """A network that is trained may have the name, too."""
    assert module(teacher).frozen_teacher is None


def test_the_teacher_is_moved_to_the_device_of_the_run(tmp_path: Path) -> None:
    teacher = Watched()
    made = module(teacher)
    made.trainer = toy.trainer(tmp_path)
    made.prepare_run()
    assert teacher.devices == [torch.device("cpu")]
    assert not list(made.parameters())
    assert made.state_dict() == {}


def test_it_is_not_sharded_without_a_mesh() -> None:
    made = module(Watched())
    made.configure_model()
    assert made.device_mesh is None
