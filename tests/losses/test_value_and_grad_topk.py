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
