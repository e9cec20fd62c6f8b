"""Values and gradients in chunks equal those of autograd on all logits at once."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback
from torch import Tensor

from kdlight import Chunking, Projected
from kdlight.objectives import ForwardKL, TokenObjective
from tests.support import toy
from tests.support.chunked_data import OBJECTIVE_FACTORIES, SIZES, ProjectedData, assert_all_close


@pytest.mark.parametrize("chunking", SIZES, ids=str)
@pytest.mark.parametrize("name", OBJECTIVE_FACTORIES)
def test_chunks_equal_autograd(name, chunking):
    data, objective = ProjectedData(), OBJECTIVE_FACTORIES[name]().double()
    assert_all_close(data.evaluate(objective, chunking), data.evaluate(objective, False))


@pytest.mark.parametrize("name", OBJECTIVE_FACTORIES)
def test_chunks_equal_autograd_in_single_precision(name):
    data, objective = ProjectedData(torch.float32), OBJECTIVE_FACTORIES[name]()
    assert_all_close(
        data.evaluate(objective, Chunking(5, 2)), data.evaluate(objective, False), rtol=1e-5
    )


@pytest.mark.parametrize("name", OBJECTIVE_FACTORIES)
def test_half_precision_in_chunks_is_as_accurate_as_at_once(name):
    data, objective = ProjectedData(torch.bfloat16), OBJECTIVE_FACTORIES[name]()
    chunked, at_once = (data.evaluate(objective, how) for how in (Chunking(5, 2), False))
    double, double_objective = ProjectedData(), deepcopy(objective).double()
    for half, parameter in zip(data.leaves, double.leaves, strict=True):
        parameter.data = half.detach().double()
    double.teacher_hidden.copy_(data.teacher_hidden)
    for half, parameter in zip(
        data.teacher_head.parameters(), double.teacher_head.parameters(), strict=True
    ):
        parameter.data = half.double()
    exact = double.evaluate(double_objective, False)
    for one, other, expected in zip(chunked, at_once, exact, strict=True):
        scale = expected.double().norm() + 1e-12
        error, usual_error = ((x.double() - expected).norm() / scale for x in (one, other))
        assert error <= 1.25 * usual_error + 2**-9


@given(
    rows=st.integers(0, 9),
    kept=st.lists(st.booleans(), min_size=9, max_size=9),
    tokens=st.integers(1, 10),
    block=st.integers(1, 10),
)
def test_any_sizes_of_chunk_and_block_give_the_same(rows, kept, tokens, block):
    data = ProjectedData()
    data.student = Projected(data.hidden[:rows], data.head)
    data.teacher = Projected(data.teacher_hidden[:rows], data.teacher_head)
    data.labels, data.mask = data.labels[:rows], torch.tensor(kept[:rows], dtype=torch.bool)
    objective = ForwardKL(temperature=2.0)
    assert_all_close(
        data.evaluate(objective, Chunking(tokens, block)), data.evaluate(objective, False)
    )


def test_a_second_backward_pass_raises():
    loss = ForwardKL()(ProjectedData().inputs(Chunking(5, 2))).total
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used up.*chunked=False"):
        loss.backward()


def test_no_gradient_is_computed_under_no_grad():
    data, requires_grad = ProjectedData(), []

    class Recording(TokenObjective):
        def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
            requires_grad.append(student.requires_grad)
            return student.sum(-1)

    with torch.no_grad():
        loss = Recording()(data.inputs(Chunking(5, 2)))
    assert not loss.total.requires_grad
    assert requires_grad
    assert not any(requires_grad)
    torch.testing.assert_close(loss.total, Recording()(data.inputs(False)).total)


def test_autocast_changes_the_dtype_of_the_head_products_only():
    data = ProjectedData(torch.float32)
    dtypes: list[torch.dtype] = []

    class Recording(TokenObjective):
        def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
            dtypes.append(student.dtype)
            return (student - teacher).square().sum(-1)

    with torch.autocast("cpu", torch.bfloat16):
        chunked, at_once = (data.evaluate(Recording(), how) for how in (Chunking(5, 2), False))
    assert set(dtypes[:-1]) == {torch.float32}
    assert [x.dtype for x in chunked] == [torch.float32, torch.int64, *[torch.float32] * 3]
    assert_all_close([x.float() for x in chunked], [x.float() for x in at_once], rtol=2e-2)
    assert chunked[0] != data.evaluate(Recording(), False)[0]  # the products were in half precision


class Losses(Callback):
    """Records the loss of every optimizer step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.losses.append(pl_module.last_step.loss)


def losses_of_a_fit(
    folder: Path, chunked: Any, network: str = "llama", **changes: Any
) -> list[float]:
    module = toy.module(network=network, chunked=chunked)
    if changes.get("compile"):
        module.student = torch.compile(module.student, backend="eager")  # type: ignore[assignment]
    if changes.get("checkpointing"):
        model: Any = module.student.model
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)()  # the name that transformers 5.20 has
    losses = Losses()
    toy.trainer(folder, max_steps=4, callbacks=[losses]).fit(module, toy.loader(4))
    return losses.losses


@pytest.mark.parametrize("changes", [{}, {"checkpointing": True}, {"compile": True}], ids=str)
def test_a_language_model_has_the_same_losses_in_chunks(tmp_path, changes):
    at_once = losses_of_a_fit(tmp_path, False)
    assert len(set(at_once)) == 4
    assert losses_of_a_fit(tmp_path, Chunking(9, 4), **changes) == pytest.approx(at_once, rel=1e-5)
