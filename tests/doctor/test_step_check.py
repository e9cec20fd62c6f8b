"""A step that fails, and one whose sizes are unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight import DistillationModule, FrozenTeacher
from kdlight.doctor import RunEnvironment, examine
from kdlight.doctor.findings import Finding
from kdlight.doctor.step_check import check_step
from kdlight.objectives import CrossEntropy
from tests.support import toy


def test_a_student_that_looks_at_numbers_has_no_known_activations(tmp_path: Path) -> None:
    class Sorting(toy.ToyLM):
        def forward(self, batch: dict[str, Tensor]) -> Any:
            assert batch["input_ids"].max().item() < toy.VOCABULARY
            return super().forward(batch)

    module = DistillationModule(
        student=Sorting(), teacher=FrozenTeacher(toy.ToyLM()), objective=CrossEntropy()
    )
    report = examine(module, toy.RaggedModule(4), toy.trainer(tmp_path))
    assert report.errors == []
    assert any("a training step works, but its sizes" in text for text in report.warnings)
    assert "without activations (estimate), logits" in str(report)


def test_a_step_that_fails_in_both_ways_is_an_error() -> None:
    class Failing(toy.ToyLM):
        def forward(self, batch: dict[str, Tensor]) -> Any:
            raise RuntimeError("first line\nsecond line")

    module = DistillationModule(student=Failing(), objective=CrossEntropy())
    batch = toy.pad([toy.RaggedModule(4).data[0]])
    assert check_step(module, batch, RunEnvironment(None)) == Finding(
        "error", "a training step fails with RuntimeError: first line"
    )
