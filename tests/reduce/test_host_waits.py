"""How often the host waits for the device: once in a loss call, at most three times in a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import Chunking, DistillationModule, SingleInput
from kdlight.objectives import ForwardKL, LossInputs, build_objective
from tests.support.chunked_data import OBJECTIVE_FACTORIES, ProjectedData, assert_all_close
from tests.support.device_questions import Questions, questions


@pytest.mark.parametrize("chunked", [Chunking(5, 2), False], ids=["chunks", "at once"])
@pytest.mark.parametrize("name", OBJECTIVE_FACTORIES)
def test_a_loss_call_asks_once_for_the_valid_rows(name, chunked):
    data, objective = ProjectedData(), OBJECTIVE_FACTORIES[name]().double()
    expected = data.evaluate(objective, chunked)
    with questions() as found:
        result = data.evaluate(objective, chunked)
    assert found.asked == ["nonzero"]
    assert_all_close(result, expected)  # what asks nothing computes the same


@pytest.mark.parametrize("name", OBJECTIVE_FACTORIES)
def test_without_a_mask_it_asks_nothing(name):
    data, objective = ProjectedData(), OBJECTIVE_FACTORIES[name]().double()
    with questions() as found:
        data.evaluate(objective, Chunking(5, 2), mask=None)
    assert not found.asked


def test_float16_products_ask_nothing():
    data = ProjectedData(torch.float16)
    expected = data.evaluate(ForwardKL(), Chunking(5, 2))
    with questions() as found:
        result = data.evaluate(ForwardKL(), Chunking(5, 2))
    assert found.asked == ["nonzero"]
    assert_all_close(result, expected, rtol=1e-2)


def test_what_is_counted():
    with questions() as found:
        x = torch.randn(3)
        _ = bool(x.any()), x.tolist(), x[x > 0], torch.tensor(1.0, device=x.device)
        assert found.asked == ["_local_scalar_dense", "tolist", "index", "tensor"]
        found.asked.clear()
        on_host = torch.tensor([1.0, 2.0])
        _ = (2 * on_host).sum().item(), on_host.tolist()
        assert not found.asked
        on_host.to(x)
        assert found.asked == ["to"]


class StepQuestions(Callback):
    """What is asked from the start of a batch to its end, the loading of data left out."""

    def __init__(self, found: Questions) -> None:
        self.found, self.steps = found, []

    def on_train_batch_start(self, *args: Any) -> None:
        self.found.asked.clear()

    def on_train_batch_end(self, *args: Any) -> None:
        self.steps.append(list(self.found.asked))


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_training_step_waits_at_most_three_times(accumulated, tmp_path):
    torch.manual_seed(0)
    student, teacher = (SingleInput(nn.Linear(4, 7)) for _ in range(2))
    module = DistillationModule(student, ForwardKL(temperature=2.0), teacher)
    data = TensorDataset(torch.randn(32, 4), torch.randint(7, (32,)))
    with questions() as found:
        counted = StepQuestions(found)
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[counted],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accumulate_grad_batches=accumulated,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, DataLoader(data, batch_size=4))
    steps = counted.steps[accumulated:]  # the first one also chooses a scale
    per_step = [
        sum(steps[start : start + accumulated], []) for start in range(0, len(steps), accumulated)
    ]
    assert len(per_step) >= 3
    assert all(len(each) <= 3 for each in per_step), per_step


# one question for each set of positions: chosen and rejected ones; those of student, teacher, pairs
SEQUENCES = {"redi": 2, "unlikelihood": 2, "dpo": 4, "simpo": 3}


@pytest.mark.parametrize("name", SEQUENCES)
def test_losses_on_sequences_ask_for_their_positions_alone(name):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 6, 11, generator=generator).unbind()
    labels = torch.randint(11, (4, 6), generator=generator)
    mask = torch.rand(4, 6, generator=generator) < 0.8
    rejected = torch.tensor([False, True, False, True])
    objective = build_objective(name)
    inputs = LossInputs(student.requires_grad_(), teacher, labels, mask, rejected=rejected)
    with questions() as found:
        objective(inputs).total.backward()
    assert found.asked == ["nonzero"] * SEQUENCES[name]


@pytest.mark.parametrize(("chunked", "asked"), [(Chunking(8, 4), ["cpu"]), (False, None)])
def test_sinkd_asks_for_the_positions_of_its_sequences(chunked, asked):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 6, 11, generator=generator).unbind()
    labels = torch.randint(11, (3, 6), generator=generator)
    mask = torch.rand(3, 6, generator=generator) < 0.8
    objective = build_objective("sinkd", geometry="sequence")
    inputs = LossInputs(student.requires_grad_(), teacher, labels, mask, chunked=chunked)
    with questions() as found:
        objective(inputs).total.backward()
    assert found.asked == (asked or ["nonzero", "cpu"])
