"""A teacher that is queried about some rows only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from kdlight import SelectiveTeacher, TeacherEnsemble
from kdlight.objectives import CrossEntropy, ForwardKL, LossInputs, Weighted, build_objective
from kdlight.sources import as_source
from tests.support import toy


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


class Counting(nn.Module):
    """A classifier that counts the rows that it is called on."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.net, self.rows = nn.Linear(3, classes), 0

    def forward(self, batch: Any) -> Tensor:
        self.rows += len(batch[0])
        return self.net(batch[0])


ROWS = torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 2, -100])
CONFIDENT, UNIFORM = torch.tensor([99.0, 0, 0, 0]), torch.zeros(4)


@pytest.mark.parametrize(
    ("ask", "threshold", "queried"),
    [("entropy", 1.5, [1, 2]), ("random_entropy", 0.0, [1, 2]), ("errors", 0.0, [1, 2])],
)
def test_rows_are_queried_by_entropy_and_by_errors(
    ask: Any, threshold: float, queried: list[int]
) -> None:
    logits = torch.stack([CONFIDENT, UNIFORM, UNIFORM, UNIFORM])  # the last is not valid
    network = Counting()
    teacher = SelectiveTeacher(network, ask=ask, threshold=threshold)
    source = teacher.answer(ROWS, logits, ROWS[1])
    assert teacher.share == 0.5
    assert network.rows == 2
    expected = logits.clone()  # the student's own, in rows that are not queried
    expected[queried] = network.net(ROWS[0])[queried].detach()
    close(source.select(None).given_student(logits), expected)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["forward_kl", "reverse_kl", "jensen_shannon", "total_variation", "taid", "adaptive_kl"]
)
def test_rows_that_are_not_queried_have_no_loss_and_no_gradient(name: str) -> None:
    student = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    teacher = SelectiveTeacher(Counting(), threshold=5.0)
    loss = build_objective(name)(LossInputs(student, teacher.answer(ROWS, student, ROWS[1])))
    assert loss.total.abs() < 1e-7
    assert torch.autograd.grad(loss.total, student)[0].abs().max() < 1e-7


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 1.0), (9.0, 0.0)])
def test_the_share_of_queried_rows_is_logged(
    threshold: float, share: float, tmp_path: Path
) -> None:
    shares = []

    class Record(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            shares.append(float(trainer.callback_metrics["train/query_share"]))

    objective = Weighted({"kd": ForwardKL(), "ce": CrossEntropy()})
    module = toy.module(objective)
    module.teacher = SelectiveTeacher(toy.ToyLM(12, seed=2), threshold=threshold)
    data = toy.RaggedModule(4, silent=())
    toy.trainer(tmp_path, callbacks=[Record()]).fit(module, datamodule=data)
    assert shares == [share] * 8


@pytest.mark.parametrize("queried", [0, 1, 2])
def test_an_ensemble_has_no_teachers_apart_whatever_is_queried(queried: int) -> None:
    """Or ranks and micro-batches would log different values, which are added up one by one."""
    networks = {"a": toy.ToyLM(12, seed=2), "b": toy.ToyLM(12, seed=3)}
    teacher = SelectiveTeacher(TeacherEnsemble(networks, weigh_by="entropy"), threshold=1.0)
    module, batch = toy.module(), next(iter(toy.loader(2)))
    student = as_source(module.student_logits(batch)).logits()
    sure = torch.arange(2).view(2, 1, 1) >= queried
    student = torch.where(sure, student * 1e4, student)
    source = teacher.answer(batch, student, module.aligned_labels(batch))
    loss = ForwardKL()(module.make_loss_inputs(batch, student, source))
    assert loss.total.isfinite()
    assert teacher.share == queried / 2
    assert source.parts == source.shares == {}
    assert {*teacher.answer(batch).parts} == {"a", "b"}  # in validation


def test_invalid_arguments_raise() -> None:
    with pytest.raises(ValueError, match="ask must be one of"):
        SelectiveTeacher(Counting(), ask="always")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold must not be negative"):
        SelectiveTeacher(Counting(), threshold=-1.0)
    with pytest.raises(ValueError, match="the batch has none"):
        SelectiveTeacher(Counting(), ask="errors").answer(ROWS, torch.zeros(4, 4))
