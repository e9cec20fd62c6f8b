"""Checks of a run in which the student generates, and the end tokens it uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy

from kdlight.callbacks.generation.generating_callback import GeneratingCallback
from kdlight.models import Sampling
from tests.support import toy


class Generating(GeneratingCallback):
    sampling = Sampling(temperature=0.0)
    end = None


def trainer(folder: Path, callback: Any) -> Any:
    return toy.trainer(folder, callbacks=[callback], max_steps=1)


def test_a_student_that_does_not_generate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a student that generates text, and ToyLM does"):
        trainer(tmp_path, Generating()).fit(toy.mixed(), toy.loader(8))


def test_fsdp_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, Generating())
    run.strategy.__class__ = FSDPStrategy  # it needs a GPU
    with pytest.raises(ValueError, match="Generating cannot generate under FSDPStrategy"):
        Generating().setup(run, toy.module(network="llama"), "fit")


def test_without_prefixes_nothing_is_generated(tmp_path: Path) -> None:
    run, module = trainer(tmp_path, Generating()), toy.module(network="llama")
    module._device_mesh = None
    callback = Generating()
    assert callback.continue_text(run, module, [], []) == []
    (text,) = callback.continue_text(run, module, [torch.tensor([3, 4])], [5])
    assert text[:2].tolist() == [3, 4]
    assert 3 <= len(text) <= 7
    callback.end = [int(text[2])]
    assert callback.continue_text(run, module, [torch.tensor([3, 4])], [5])[0].tolist() == [
        *text[:3].tolist()
    ]
