"""One round to test recipes with: a small student that has learned sums, on one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Trainer

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks.round_recipes.origins import content, prompt_content
from kdlight.callbacks.round_recipes.work import RoundWork
from kdlight.data.traces import Trace
from kdlight.data.traces.sums_module import SumsDataModule
from kdlight.models import Sampling
from kdlight.objectives import CrossEntropy
from tests.support import tiny_lm, toy


class Learned(NamedTuple):
    """A run that is over, in a folder."""

    trainer: Trainer
    module: DistillationModule
    data: SumsDataModule
    folder: Path


@pytest.fixture
def learned(tmp_path: Path) -> Learned:
    """Some sums of two digits are right after this fit, and others are not."""
    torch.manual_seed(0)
    student = CausalLM.wrap(tiny_lm.model(dim=32))
    module = DistillationModule(
        student, CrossEntropy(), optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.01)
    )
    data = SumsDataModule(tiny_lm.tokenizer(), size=80, max_terms=2, batch_size=16)
    run = toy.trainer(tmp_path, max_epochs=6, limit_val_batches=0)
    run.fit(module, data)
    return Learned(run, module, data, tmp_path / "round")


def work(run: Learned, *, number: int = 1, prompts: list[Trace] | None = None) -> RoundWork:
    """A round of the run."""
    known = [*run.data.traces.training, *run.data.traces.validation]
    return RoundWork(
        trainer=run.trainer,
        module=run.module,
        tokenizer=run.data.tokenizer,
        folder=run.folder,
        number=number,
        prompts=run.data.prompts if prompts is None else prompts,
        taken={content(trace) for trace in known},
        taken_prompts={prompt_content(trace) for trace in known},
        sampling=Sampling(max_new_tokens=6, seed=5),
        batch_size=8,
        chat=False,
    )


def count(traces: Any) -> int:
    """The number of different contents of traces."""
    return len({content(trace) for trace in traces})
