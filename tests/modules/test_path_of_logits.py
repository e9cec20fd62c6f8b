"""How many files a reader has to open to follow the student's logits from a batch to their loss."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from kdlight import DistillationModule, SingleInput
from kdlight.modules import GradientNormalizer
from kdlight.modules.step_driver import StepDriver
from kdlight.objectives import ForwardKL
from kdlight.sources import LogitsSource

PACKAGE = Path(__file__).parents[2] / "kdlight"
CLASSES = 3


def is_logits(value: Any) -> bool:
    """Whether a value holds logits that lead back to the student."""
    if isinstance(value, tuple):
        return any(map(is_logits, value))
    if isinstance(value, LogitsSource):
        value = getattr(value, "tensor", None)
    return (
        isinstance(value, Tensor)
        and value.requires_grad
        and value.dim() == 2
        and value.shape[-1] == CLASSES
    )


def test_the_logits_of_a_dense_forward_kl_enter_at_most_fourteen_files() -> None:
    """Counted are files with a function that receives, computes or returns them."""
    networks = (SingleInput(nn.Linear(4, CLASSES)) for _ in range(2))
    module = DistillationModule(next(networks), ForwardKL(), next(networks))
    module.is_first_batch = False
    # without a trainer there are no ranks
    module.step_driver = StepDriver({"student": GradientNormalizer()})
    batch = (torch.randn(5, 4), torch.randint(CLASSES, (5,)))
    files: list[str] = []

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event not in ("call", "return") or not path.is_relative_to(PACKAGE):
            return
        values = [value for name, value in frame.f_locals.items() if name != "self"]
        if any(map(is_logits, [*values, argument if event == "return" else None])):
            name = path.relative_to(PACKAGE).as_posix()
            if name not in files:
                files.append(name)

    sys.setprofile(watch)
    try:
        module.training_step(batch, 0).backward()
    finally:
        sys.setprofile(None)
    assert "losses/kl.py" in files
    assert "reduce/sums.py" in files
    assert len(files) <= 14, " ".join(files)
