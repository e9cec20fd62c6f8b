"""The student writes, the teacher corrects: with real generation and the real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.callbacks import OnPolicy, SequenceCorrection
from kdlight.callbacks.sequence_correction import find_errors
from kdlight.objectives import DACKL, CrossEntropy, ForwardKL, LossInputs, SpanKL, Weighted
from tests.callbacks.test_on_policy import LENGTH, PROMPT, Watch, fit, loader, module, wild
from tests.support import toy


def test_the_error_is_corrected_and_the_rest_written_anew(tmp_path: Path) -> None:
    plain, _, _ = fit(tmp_path, OnPolicy(temperature=0.0, end=[]))
    watch, trainer, _ = fit(tmp_path, SequenceCorrection(temperature=0.0, end=[]))
    before, after = plain.batches[0], watch.batches[0]
    learner = module()
    with torch.no_grad():
        step = learner.step(before)
        assert step.teacher is not None
        teacher = step.teacher.logits()
    errors = find_errors(step, divergence="forward", at_least=0.0)
    assert (errors.position >= 0).all()
    for i, at in enumerate(errors.position.tolist()):
        place = at + 1
        assert place >= PROMPT
        assert torch.equal(after["input_ids"][i, :place], before["input_ids"][i, :place])
        assert after["input_ids"][i, place] == teacher[i, at].argmax()
        assert after["input_ids"][i, place] != before["input_ids"][i, place]
        with torch.no_grad():  # what follows is the student's again
            logits = learner.student({"input_ids": after["input_ids"][i : i + 1]}).logits()
        for later in range(place, LENGTH - 1):
            assert logits[0, later].argmax() == after["input_ids"][i, later + 1]
    logged = trainer.callback_metrics
    assert logged["train/correction/share"] == 1
    assert 0 <= logged["train/correction/position"] <= 1
    assert logged["train/correction/divergence"] > 0


def test_a_student_that_is_its_teacher_is_not_corrected(tmp_path: Path) -> None:
    learner = DistillationModule(wild(12, seed=2), ForwardKL(), wild(12, seed=2))
    callbacks = [SequenceCorrection(temperature=0.0), Watch()]
    trainer = toy.trainer(tmp_path, callbacks=callbacks, max_steps=1)
    trainer.fit(learner, loader())
    assert trainer.callback_metrics["train/correction/share"] == 0


def test_what_is_hardly_an_error_may_be_let_through(tmp_path: Path) -> None:
    watch, trainer, _ = fit(tmp_path, SequenceCorrection(min_divergence=1e6, temperature=0.0))
    assert trainer.callback_metrics["train/correction/share"] == 0
    plain, _, _ = fit(tmp_path, OnPolicy(temperature=0.0))
    assert torch.equal(watch.batches[0]["input_ids"], plain.batches[0]["input_ids"])


def test_two_passes_correct_twice(tmp_path: Path) -> None:
    once, _, _ = fit(tmp_path, SequenceCorrection(temperature=0.0, end=[]))
    twice, _, _ = fit(tmp_path, SequenceCorrection(temperature=0.0, end=[], frequency=2))
    assert not torch.equal(once.batches[0]["input_ids"], twice.batches[0]["input_ids"])


def test_a_response_that_ends_at_once_is_one(tmp_path: Path) -> None:
    every = list(range(toy.VOCABULARY))
    watch, _, _ = fit(tmp_path, SequenceCorrection(end=every))
    assert watch.batches[0]["input_ids"].shape[1] == PROMPT + 1


def test_all_three_parts_together(tmp_path: Path) -> None:
    class Data(toy.RaggedModule):
        def span_ids(self, ids: Tensor) -> Tensor:
            return torch.arange(len(ids)) // 3

        def train_dataloader(self) -> DataLoader:
            def collate(rows: Any) -> dict[str, Tensor]:
                batch = toy.pad(rows)
                return {**batch, "span_ids": torch.zeros_like(batch["input_ids"])}

            return DataLoader(self.data, 4, collate_fn=collate)

    parts = Weighted({"dac": DACKL(), "span": SpanKL(), "sft": CrossEntropy()})
    trainer = toy.trainer(
        tmp_path,
        callbacks=[SequenceCorrection(fraction=0.5, prompt_tokens=3)],
        max_steps=4,
        limit_val_batches=0,
    )
    trainer.fit(module(parts), Data(4, count=16))
    assert {"train/dac", "train/span", "train/sft"} <= set(trainer.callback_metrics)


class TestRefusals:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"fraction": 1.5}, r"fraction must be in \[0.0, 1.0\]"),
            ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
            ({"refresh_every": 0}, "refresh_every must be at least 1"),
            ({"temperature": -1.0}, "temperature must be finite"),
            ({"top_p": 0.0}, "top_p must be in"),
            ({"frequency": 0}, "frequency must be at least 1"),
            ({"divergence": "both"}, "divergence must be one of"),
            ({"min_divergence": -1.0}, "min_divergence must be in"),
        ],
    )
    def test_numbers(self, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SequenceCorrection(**wrong)

    def refused(self, folder: Path, learner: Any, message: str, data: Any = None) -> None:
        trainer = toy.trainer(folder, callbacks=[SequenceCorrection()], max_steps=1)
        with pytest.raises(ValueError, match=message):
            trainer.fit(learner, loader() if data is None else data)

    def test_a_student_that_does_not_write(self, tmp_path: Path) -> None:
        self.refused(tmp_path, toy.module(), "needs a student that generates text")

    def test_no_teacher(self, tmp_path: Path) -> None:
        alone = DistillationModule(toy.llama(), CrossEntropy())
        self.refused(tmp_path, alone, "needs a teacher that corrects")

    def test_a_teacher_of_stored_text(self, tmp_path: Path) -> None:
        from kdlight.teachers import Teacher

        class Stored(Teacher):
            def answer(self, batch: Any, student: Any = None, labels: Any = None) -> Any:
                return batch

        stored = DistillationModule(toy.llama(), ForwardKL(), Stored())
        self.refused(tmp_path, stored, "knows stored text only; use a live teacher")


def test_find_errors_looks_at_responses_alone() -> None:
    student, teacher = torch.zeros(2, 3, 5), torch.zeros(2, 3, 5)
    teacher[0, 0, 3], teacher[0, 1, 2], teacher[1, 2, 4] = 9.0, 4.0, 1.0
    mask = torch.tensor([[False, True, True], [False, False, False]])
    step = LossInputs(student, teacher, torch.ones(2, 3, dtype=torch.long), mask)
    found = find_errors(step, divergence="forward", at_least=0.0)
    assert found.position.tolist() == [1, -1]
    assert found.token[0] == 2
