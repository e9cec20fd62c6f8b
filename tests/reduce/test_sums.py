"""Sums and values of valid positions: masks, weights, no valid position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Chunking, Projected
from kdlight.objectives import CrossEntropy, ForwardKL, TokenObjective, build_objective
from kdlight.reduce import position_values, token_sum, token_values
from tests.support.chunked_data import OBJECTIVE_FACTORIES, N, ProjectedData, assert_all_close


@pytest.mark.parametrize("name", OBJECTIVE_FACTORIES)
def test_no_valid_token_gives_zero_with_a_graph_and_all_parts(name):
    data, objective = ProjectedData(), OBJECTIVE_FACTORIES[name]().double()
    for width in (1, 600):  # short and long rows take different code paths
        wide = {"student": data.student.logits().repeat(1, width)}
        wide["teacher"] = data.teacher.logits().repeat(1, width)
        empty, full = (
            objective(data.inputs(Chunking(5, 2), mask=data.mask & keep, **wide))
            for keep in (torch.tensor(False), torch.tensor(True))
        )
        assert empty.total.item() == 0
        assert empty.total.requires_grad
        assert empty.count == 0
        assert empty.parts.keys() == full.parts.keys()


def test_invalid_positions_reach_neither_value_nor_gradient():
    data = ProjectedData()
    hidden = data.hidden.detach().clone()
    hidden[~data.mask] = torch.nan
    labels = data.labels.masked_fill(~data.mask, 10**6)
    leaf = hidden.requires_grad_()
    student = Projected(leaf, data.head)
    loss = build_objective("decoupled_kl")(
        data.inputs(Chunking(5, 2), student=student, labels=labels)
    )
    (gradient,) = torch.autograd.grad(loss.total, leaf)
    assert loss.total.isfinite()
    assert not gradient[~data.mask].any()
    assert gradient[data.mask].isfinite().all()


def test_weights_of_any_sign():
    data = ProjectedData()
    weights = torch.linspace(-1, 1, N, dtype=torch.float64)
    for name in ("forward_kl", "todi"):  # with a closed form, and without
        rule = build_objective(name)
        assert isinstance(rule, TokenObjective)

        def evaluate(chunked: Any, rule: TokenObjective = rule) -> list[Tensor]:
            loss = token_sum(
                rule.per_token_loss,
                data.student,
                data.teacher,
                mask=data.mask,
                weights=weights,
                value_and_grad=rule.value_and_grad,
                chunked=chunked,
            )
            return [loss.total.detach(), *torch.autograd.grad(loss.total, data.leaves)]

        assert_all_close(evaluate(Chunking(5, 2)), evaluate(False))


def test_token_values_have_a_graph():
    data, rule = ProjectedData(), CrossEntropy()

    def evaluate(chunked: Any) -> list[Tensor]:
        values = token_values(
            rule.per_token_loss, data.student, None, data.labels, data.mask, chunked=chunked
        )
        loss = nn.functional.logsigmoid(values[:4].sum() - values[4:].mean())
        return [values.detach(), *torch.autograd.grad(loss, data.leaves)]

    assert_all_close(evaluate(Chunking(5, 2)), evaluate(False))


@pytest.mark.parametrize("chunked", [Chunking(5, 2), False], ids=["chunks", "at once"])
@pytest.mark.parametrize("masked", ["some", "none", "all", "no mask"])
def test_values_at_positions_are_the_values_in_their_places(masked, chunked):
    data, objective = ProjectedData(), ForwardKL()
    masks = {"some": data.mask, "none": data.mask & False, "all": data.mask | True}
    mask = masks.get(masked)
    arguments = (objective.per_token_loss, data.student, data.teacher)
    values = token_values(*arguments, mask=mask, chunked=chunked)
    places = position_values(*arguments, mask=mask, fill=-7.0, chunked=chunked)
    assert places.shape == data.mask.shape
    valid = torch.ones_like(data.mask) if mask is None else mask
    assert torch.equal(places[valid], values)
    assert (places[~valid] == -7.0).all()
    outer = torch.linspace(-1, 1, len(valid), dtype=places.dtype)
    gradients = torch.autograd.grad((places * outer).sum(), data.leaves)
    expected = torch.autograd.grad((values * outer[valid]).sum(), data.leaves)
    assert_all_close(list(gradients), list(expected))
