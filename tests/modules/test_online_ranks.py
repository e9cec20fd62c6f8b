"""Online distillation on several ranks, and resumed after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from kdlight import Learner, OnlineDistillationModule
from kdlight.callbacks import ExactResume
from tests.support import toy
from tests.support.online_fit import (
    Options,
    Result,
    fit,
    fit_on_ranks,
    full_weights,
    largest_difference,
    make_objective,
)
from tests.support.resume_fit import NoisyData

WORK: dict[str, Options] = {
    "three": {"networks": 3, "clips": {"student": 0.02, "teacher": 0.05}},
    "alternating": {"updates": "alternating"},
    "plain": {"network": "plain"},
}
STRATEGIES = ("ddp", "fsdp2")
CASES = [(work, strategy) for work in WORK for strategy in STRATEGIES]
TENSOR = ("tensor", "tensor head")
"""Strategies whose ranks get the same batch, which is that of one process."""


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Result]]:
    """Run all fits on two ranks in one process each, as starting a process takes seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    split = {"batch_size": 2, "accumulate": 2, "scaled": str(folder)}
    cases = {
        f"{work} {strategy}": {**WORK[work], **split, "strategy": strategy}
        for work, strategy in CASES
    }
    for strategy in TENSOR:
        cases[strategy] = {"networks": 3, "chunked": "auto", "strategy": strategy}
    return fit_on_ranks(cases, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("work", "strategy"), CASES)
def test_ranks_equal_one_process_in_training_and_evaluation(
    work: str, strategy: str, on_ranks: list[dict[str, Result]], tmp_path: Path
) -> None:
    expected = fit({**WORK[work], "scaled": str(tmp_path)})
    first, second = (rank[f"{work} {strategy}"] for rank in on_ranks)
    assert largest_difference(first["weights"], second["weights"]) == 0
    assert largest_difference(expected["weights"], first["weights"]) < (
        1e-6 if work == "three" else 1e-9
    )
    depend_on_split = ("train/tokens_per_second", "train/ignored_share")
    measured = [key for key in expected["logged"] if key not in depend_on_split]
    names = {"val/ece", "val/ace", "val/teacher/mce", "train/teacher/loss"}
    assert names | {"val/teacher_temperature_ece"} <= set(measured)
    for key in measured:
        assert first["logged"][key] == pytest.approx(expected["logged"][key], rel=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("strategy", TENSOR)
def test_networks_that_are_divided_learn_from_each_other(
    strategy: str, on_ranks: list[dict[str, Result]]
) -> None:
    expected = fit({"networks": 3})
    for rank in on_ranks:
        assert largest_difference(expected["weights"], rank[strategy]["weights"]) < 1e-9


class SaveAt(Callback):
    """Saves a checkpoint between two micro-batches of a step, and one during validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx == 4:
            trainer.save_checkpoint(self.folder / "window.ckpt")

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.folder / "validation.ckpt")


@pytest.mark.parametrize("updates", ["simultaneous", "alternating"])
def test_an_interrupted_run_resumes_to_the_same_bits(updates: Any, tmp_path: Path) -> None:
    def run(*callbacks: Callback, resume: Path | None = None, seed: int = 0) -> Any:
        seed_everything(seed, verbose=False)
        module = OnlineDistillationModule(
            {
                name: Learner(toy.ToyLM(dim, seed=dim, dropout=0.2), make_objective(name))
                for name, dim in (("student", 6), ("teacher", 9), ("third", 7))
            },
            optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.05),
            lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5),
            updates=updates,
            labels="causal",  # tokens are noisy, so that they do not tell
        )
        trainer = Trainer(
            default_root_dir=tmp_path,
            accelerator="cpu",
            max_epochs=2,
            accumulate_grad_batches=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[ExactResume(), *callbacks],
        )
        trainer.fit(module, NoisyData(10), ckpt_path=resume and str(resume))
        return full_weights(module)

    expected = run(SaveAt(tmp_path))
    for name in ("window.ckpt", "validation.ckpt"):
        resumed = run(resume=tmp_path / name, seed=1)
        assert all(torch.equal(resumed[key], expected[key]) for key in expected), name
