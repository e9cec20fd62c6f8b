"""The student generates and the teacher corrects, with the real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.callbacks import OnPolicy, SequenceCorrection
from kdlight.callbacks.generation.errors import find_errors
from kdlight.objectives import DACKL, CrossEntropy, ForwardKL, SpanKL, Weighted
from tests.callbacks.test_on_policy import (
    GREEDY,
    LENGTH,
    PROMPT,
    Watch,
    diverse_llama,
    fit,
    loader,
    module,
)
from tests.support import toy


def test_the_error_is_corrected_and_the_rest_is_generated_again(tmp_path: Path) -> None:
    plain, _, _ = fit(tmp_path, OnPolicy(sampling=GREEDY, end=[]))
    watch, trainer, _ = fit(tmp_path, SequenceCorrection(sampling=GREEDY, end=[]))
    before, after = plain.batches[0], watch.batches[0]
    learner = module()
    with torch.no_grad():
        inputs = learner.loss_inputs(before)
        assert inputs.teacher is not None
        teacher = inputs.teacher.logits()
    errors = find_errors(inputs, divergence="forward", at_least=0.0)
    assert (errors.position >= 0).all()
    for i, at in enumerate(errors.position.tolist()):
        place = at + 1
        assert place >= PROMPT
        assert torch.equal(after["input_ids"][i, :place], before["input_ids"][i, :place])
        assert after["input_ids"][i, place] == teacher[i, at].argmax()
        assert after["input_ids"][i, place] != before["input_ids"][i, place]
        with torch.no_grad():  # the student generates what follows
            logits = learner.student({"input_ids": after["input_ids"][i : i + 1]}).logits()
        for later in range(place, LENGTH - 1):
            assert logits[0, later].argmax() == after["input_ids"][i, later + 1]
    logged = trainer.callback_metrics
    assert logged["train/correction/share"] == 1
    assert 0 <= logged["train/correction/position"] <= 1
    assert logged["train/correction/divergence"] > 0


def test_a_student_that_is_its_teacher_is_not_corrected(tmp_path: Path) -> None:
    learner = DistillationModule(diverse_llama(12, seed=2), ForwardKL(), diverse_llama(12, seed=2))
    callbacks = [SequenceCorrection(sampling=GREEDY), Watch()]
    trainer = toy.trainer(tmp_path, callbacks=callbacks, max_steps=1)
    trainer.fit(learner, loader())
    assert trainer.callback_metrics["train/correction/share"] == 0


def test_errors_below_min_divergence_are_not_corrected(tmp_path: Path) -> None:
    watch, trainer, _ = fit(tmp_path, SequenceCorrection(min_divergence=1e6, sampling=GREEDY))
    assert trainer.callback_metrics["train/correction/share"] == 0
    plain, _, _ = fit(tmp_path, OnPolicy(sampling=GREEDY))
    assert torch.equal(watch.batches[0]["input_ids"], plain.batches[0]["input_ids"])


def test_two_passes_correct_twice(tmp_path: Path) -> None:
    once, _, _ = fit(tmp_path, SequenceCorrection(sampling=GREEDY, end=[]))
    twice, _, _ = fit(tmp_path, SequenceCorrection(sampling=GREEDY, end=[], frequency=2))
    assert not torch.equal(once.batches[0]["input_ids"], twice.batches[0]["input_ids"])


def test_a_response_may_be_a_single_end_token(tmp_path: Path) -> None:
    every = list(range(toy.VOCABULARY))
    watch, _, _ = fit(tmp_path, SequenceCorrection(end=every))
    assert watch.batches[0]["input_ids"].shape[1] == PROMPT + 1


def test_dac_kl_span_kl_and_correction_together(tmp_path: Path) -> None:
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


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"fraction": 1.5}, r"fraction must be in \[0.0, 1.0\]"),
            ({"refresh_every": 0}, "refresh_every must be at least 1"),
            ({"frequency": 0}, "frequency must be at least 1"),
            ({"divergence": "both"}, "divergence must be one of"),
            ({"min_divergence": -1.0}, "min_divergence must be in"),
        ],
    )
    def test_arguments_outside_their_range(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SequenceCorrection(**options)

    def check_refused(self, folder: Path, learner: Any, message: str, data: Any = None) -> None:
        trainer = toy.trainer(folder, callbacks=[SequenceCorrection()], max_steps=1)
        with pytest.raises(ValueError, match=message):
            trainer.fit(learner, loader() if data is None else data)

    def test_a_student_that_does_not_generate(self, tmp_path: Path) -> None:
        self.check_refused(tmp_path, toy.module(), "needs a student that generates text")

    def test_no_teacher(self, tmp_path: Path) -> None:
        alone = DistillationModule(toy.llama(), CrossEntropy())
        self.check_refused(tmp_path, alone, "needs a module with a teacher")

    def test_a_teacher_without_a_network(self, tmp_path: Path) -> None:
        from kdlight.teachers import Teacher

        class Stored(Teacher):
            def answer(self, batch: Any, student: Any = None, labels: Any = None) -> Any:
                return batch

        stored = DistillationModule(toy.llama(), ForwardKL(), Stored())
        self.check_refused(
            tmp_path, stored, "a Stored cannot compute them; use a live or a served teacher"
        )
