"""Answers of a student in one process; test_solve_rate_ranks.py has those of several."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from kdlight.callbacks.generation.answering import answer_on_ranks, batch_seed, gather_results
from kdlight.data.traces import Trace
from kdlight.models import Sampling
from tests.support import tiny_lm

TASKS = [Trace(f"{i}+", "", meta={"generation": 0}) for i in range(5)]
SAMPLED = Sampling(temperature=1.5, max_new_tokens=6, seed=3)


def answers(tasks: list[Trace], *, rank: int = 0, ranks: int = 1) -> list[Trace]:
    """Return the answers of one rank of several."""
    student = tiny_lm.model()
    trainer: Any = SimpleNamespace(strategy=None, world_size=ranks, global_rank=rank)
    module: Any = SimpleNamespace(
        student_network=lambda: student, device_mesh=None, device=torch.device("cpu")
    )
    return answer_on_ranks(
        trainer, module, tiny_lm.tokenizer(), tasks,
        sampling=SAMPLED, batch_size=2, chat=False,
    )  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_the_ranks_together_give_the_answers_of_one(ranks: int) -> None:
    together = [each for rank in range(ranks) for each in answers(TASKS, rank=rank, ranks=ranks)]
    assert sorted(together, key=lambda trace: trace.prompt) == answers(TASKS)


def test_no_tasks_have_no_answers() -> None:
    assert answers([]) == []


def test_seeds_are_different() -> None:
    seeds = {batch_seed(seed, start) for seed in range(10) for start in range(10)}
    assert len(seeds) == 100


def test_one_process_keeps_its_results_and_its_errors() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert gather_results(trainer, lambda: [1, 2]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        gather_results(trainer, lambda: [1 / 0])
