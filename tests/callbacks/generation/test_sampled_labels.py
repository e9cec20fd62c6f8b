"""An objective on tokens of the student gets no others, in a fit with the real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.callbacks import OnPolicy, SequenceCorrection
from kdlight.callbacks.generation.rows import Row
from kdlight.callbacks.generation.sampled_labels import only_sampled
from kdlight.models import Sampling
from kdlight.objectives import CrossEntropy, ForwardKL, SampledReverseKL, Weighted
from kdlight.rollouts import VLLMRollouts
from kdlight.schedules import Linear
from tests.callbacks.test_on_policy import Watch, fit, module
from tests.support import toy


def kd() -> Any:
    return Weighted({"kd": SampledReverseKL(temperature=2.0), "ce": CrossEntropy()})


HOT = Sampling(temperature=2.0)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda: OnPolicy(0.5, HOT), "OnPolicy has fraction=0.5; set fraction to 1"),
        (lambda: OnPolicy(Linear(0.0, 1.0), HOT), "has fraction=.*; set fraction to 1"),
        (lambda: OnPolicy(1.0, HOT, refresh_every=2), "refresh_every=2, text of an older student"),
        (lambda: OnPolicy(1.0), "a temperature of 1.0, and its own is 2.0; set both"),
        (lambda: OnPolicy(1.0, Sampling(temperature=2.0, top_p=0.9)), "top_p=0.9; set top_p"),
        (lambda: SequenceCorrection(sampling=HOT), "SequenceCorrection has text that is changed"),
        (
            lambda: OnPolicy(1.0, HOT, engine=VLLMRollouts("http://127.0.0.1:9", sync_every=4)),
            "an engine with sync_every=4, text of an older student; set sync_every to 1",
        ),
    ],
)
def test_other_labels_are_refused_before_the_first_step(
    callback: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, callback(), objective=kd())


def test_other_objectives_are_not_concerned(tmp_path: Path) -> None:
    fit(tmp_path, OnPolicy(0.5, Sampling(top_p=0.9), refresh_every=2), objective=ForwardKL())


def ragged(short: int) -> torch.utils.data.DataLoader:
    """Plain text, of which one row in four has no room for a response."""

    def collate(rows: Any) -> dict[str, Tensor]:
        batch = toy.pad(rows)
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["labels"][0, short:] = -100
        batch["attention_mask"][0, short:] = 0
        return batch

    return torch.utils.data.DataLoader(toy.Ragged(8, length=12, silent=()), 4, collate_fn=collate)


@pytest.mark.parametrize("objective", [SampledReverseKL, ForwardKL])
def test_a_row_that_keeps_its_text_does_not_count(objective: Any, tmp_path: Path) -> None:
    watch = Watch()
    callback = OnPolicy(prompt_tokens=4)
    toy.trainer(tmp_path, callbacks=[callback, watch]).fit(module(objective()), ragged(3))
    for batch in watch.batches:
        counts = (batch["labels"] != -100).any(-1)
        assert counts.tolist() == [objective is ForwardKL, True, True, True]


def test_rows_with_a_response_stay_as_they_are() -> None:
    ids = torch.tensor([1, 2, 3])
    row = Row(ids, ids, prompt=1, limit=3)
    assert only_sampled([row])[0] is row
