"""Evaluation without an effect on the training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.callbacks.inference.context import inference_context
from tests.support import toy


def test_everything_is_restored(tmp_path: Path) -> None:
    module, trainer = toy.module(), toy.trainer(tmp_path)
    module.student.head.eval()  # type: ignore[union-attr]
    modes, before = [part.training for part in module.modules()], torch.get_rng_state()
    with inference_context(trainer, module):
        assert not any(part.training for part in module.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3)
    assert [part.training for part in module.modules()] == modes
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_precision_is_that_of_the_run(tmp_path: Path) -> None:
    module, trainer = toy.module(), toy.trainer(tmp_path, precision="bf16-mixed")
    batch = next(iter(toy.loader(2)))
    with inference_context(trainer, module):
        assert module.student(batch).hidden.dtype == torch.bfloat16
    assert module.student(batch).hidden.dtype == torch.float32


def test_modes_are_restored_after_an_error(tmp_path: Path) -> None:
    module, trainer = toy.module(), toy.trainer(tmp_path)
    with pytest.raises(RuntimeError, match="out of memory"), inference_context(trainer, module):
        raise RuntimeError("out of memory")
    assert module.training
