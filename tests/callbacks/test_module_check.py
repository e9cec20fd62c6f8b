"""A callback of distillation needs a module that has a student."""

from __future__ import annotations

import pytest
from lightning.pytorch import LightningModule

from kdlight.callbacks.module_check import check_module
from tests.support import toy


@pytest.mark.parametrize("mixin", [False, True])
def test_a_module_with_a_student_is_returned(mixin: bool) -> None:
    module = toy.mixed() if mixin else toy.module()
    assert check_module("Name", module) is module


def test_another_module_is_named() -> None:
    message = "Name needs a kdlight.DistillationModule, .* got LightningModule"
    with pytest.raises(ValueError, match=message):
        check_module("Name", LightningModule())
