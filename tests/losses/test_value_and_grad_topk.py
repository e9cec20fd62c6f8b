"""Closed forms of KL divergences over k tokens and a bucket are autograd's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses import value_and_grad_topk as closed
from kdlight.losses.topk import log_mass, without
from kdlight.losses.topk_reverse_kl import most_likely
from kdlight.losses.value_and_grad import WIDE
from tests.losses.test_value_and_grad import check


@pytest.fixture(params=[7, WIDE], ids=["narrow", "wide"])
def teacher(request: pytest.FixtureRequest) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(3, request.param, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("k", [1, 6])
def test_forward_kl_is_that_of_autograd(k: int, teacher: Tensor) -> None:
    top = teacher.log_softmax(-1).topk(k, -1)
    check(
        closed.topk_forward_kl,
        losses.topk_forward_kl,
        teacher.shape[-1],
        top.indices,
        top.values,
    )


@pytest.mark.parametrize("k", [1, 6])
def test_reverse_kl_is_that_of_autograd(k: int, teacher: Tensor) -> None:
    log_p = teacher.log_softmax(-1)

    def loss(student: Tensor) -> Tensor:
        ids = most_likely(student, k)
        log_tail = log_mass(without(log_p, ids))
        return losses.topk_reverse_kl(student, ids, log_p.gather(-1, ids), log_tail)

    check(lambda z: closed.topk_reverse_kl(z, teacher, most_likely(z, k)), loss, teacher.shape[-1])


@pytest.mark.parametrize("name", ["topk_forward_kl", "topk_reverse_kl"])
def test_a_bucket_whose_probability_underflows_keeps_its_digits(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([[0, 1]]).expand(200, 2)
    for gap in range(60, 120, 5):
        student, teacher = 2 * torch.randn(2, 200, 6, generator=generator)
        student[:, 2:] -= gap
        results = []
        for z, t in ((student, teacher), (student.double(), teacher.double())):
            top = t.log_softmax(-1).gather(-1, ids)
            sides = (t, ids) if name == "topk_reverse_kl" else (ids, top)
            results.append(getattr(closed, name)(z, *sides))
        for one, exact in zip(*results, strict=True):
            torch.testing.assert_close(one.double(), exact, rtol=1e-5, atol=1e-6)
