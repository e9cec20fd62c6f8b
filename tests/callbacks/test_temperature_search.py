"""The search of a temperature: what is compared with the labels, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import TensorDataset

from kdlight import DistillationModule, SingleInput
from kdlight.callbacks.temperature_search import find_temperature, outcomes
from kdlight.metrics import TemperatureCurve
from kdlight.objectives import MeanSquaredError
from kdlight.sources import Aligned, Alignment, Dense, TopK, as_source
from tests.support.calibration_fit import FACTOR, Data, module, trainer

LOGITS = 3 * torch.randn(300, 40, generator=torch.Generator().manual_seed(0))


class Search(Callback):
    """Searches for the teacher's temperature before the first batch."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.modes = [part.training for part in pl_module.modules()]
        self.found = find_temperature(
            "Search",
            trainer,
            pl_module,
            lambda batch: as_source(pl_module.teacher_logits(batch)),
            criterion="nll",
            bins=15,
        )
        assert [part.training for part in pl_module.modules()] == self.modes
        assert pl_module.is_first_batch


def test_a_temperature_is_found_before_the_first_batch(tmp_path: Path) -> None:
    search = Search()
    trainer(tmp_path, search, max_steps=1).fit(module(), Data())
    assert search.found["temperature"] == pytest.approx(FACTOR, rel=0.15)
    assert set(search.found) == {"temperature", "nll", "ece"}


def test_the_tail_of_a_top_k_is_one_outcome() -> None:
    probabilities = LOGITS.softmax(-1)
    labels = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(1))[:, 0]
    source = TopK.of(LOGITS, 4)
    logits, places = outcomes(source, labels)
    assert logits.shape == (300, 5)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(300))
    kept = probabilities.topk(4).indices
    for label, place, ids in zip(labels.tolist(), places.tolist(), kept.tolist(), strict=True):
        assert place == (ids.index(label) if label in ids else 4)
    torch.testing.assert_close(logits[:, :4], LOGITS.log_softmax(-1).topk(4).values)
    hot, same = outcomes(TopK(source.ids, source.log_probs, 40, temperature=2.0), labels)
    torch.testing.assert_close(hot[:, :4], logits[:, :4] / 2)
    assert torch.equal(same, places)


def test_entries_that_are_not_used_are_no_labels() -> None:
    source = TopK(torch.tensor([[3, 0]]), torch.tensor([[0.9, 0.0]]).log(), 7)
    _, places = outcomes(source, torch.tensor([0]))
    assert places.tolist() == [2]


def test_a_tail_over_a_large_vocabulary_does_not_decide_the_temperature() -> None:
    """The k tokens of a teacher that is three times too sure, of 4,000: spread evenly, the tail
    would outweigh them at a temperature of 3."""
    generator = torch.Generator().manual_seed(0)
    true = torch.full((2000, 4000), -12.0)
    true[:, :6] = 2 * torch.randn(2000, 6, generator=generator)
    labels = torch.multinomial(true.softmax(-1), 1, generator=generator)[:, 0]
    teacher = true.clone()
    teacher[:, :6] *= 3
    source, grid = TopK.of(teacher, 6), [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    best = []
    for logits, places in (outcomes(source, labels), (source.logits(), labels)):
        curve = TemperatureCurve(grid)
        curve.update(logits, places)
        best.append(grid[int(curve.compute()["nll"].argmin())])
    assert best[0] == pytest.approx(3.0, abs=0.5)
    assert best[1] < 2.5


def test_a_part_of_the_vocabulary_in_another_order_is_refused() -> None:
    alignment = Alignment(torch.arange(40), torch.arange(40), 40, 40)
    source = Aligned(TopK.of(LOGITS, 4), alignment)
    with pytest.raises(ValueError, match="cannot be found for logits of type Aligned"):
        outcomes(source, torch.zeros(300, dtype=torch.long))
    logits, _ = outcomes(Aligned(Dense(LOGITS), alignment), torch.zeros(300, dtype=torch.long))
    assert torch.equal(logits, LOGITS)


def test_the_outputs_of_a_regression_have_no_temperature(tmp_path: Path) -> None:
    values = TensorDataset(torch.randn(60, 3), torch.randn(60, 2))
    data = Data(held_out=values)
    data.train = values
    this = DistillationModule(
        SingleInput(nn.Linear(3, 2)), MeanSquaredError(), SingleInput(nn.Linear(3, 2))
    )
    with pytest.raises(ValueError, match="the outputs of a regression are no probabilities"):
        trainer(tmp_path, Search(), max_steps=1).fit(this, data)
