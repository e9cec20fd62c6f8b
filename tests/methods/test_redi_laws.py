"""The laws of tests/objectives/test_laws.py for objectives on chosen and rejected sequences.

Their value is not a sum over independent rows. The unit of these laws is a sequence, or a pair.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected
from kdlight.objectives import (
    DPO,
    OBJECTIVES,
    REDI,
    ForwardKL,
    Loss,
    LossInputs,
    SimPO,
    Unlikelihood,
)
from kdlight.reduce import Chunking
from tests.objectives.test_laws import ELSEWHERE
from tests.support.redi_reference import by_reference

B, T, V = 6, 5, 7
BUILDS: dict[str, Callable[[], Any]] = {
    "redi": REDI,
    "redi, alpha=0": lambda: REDI(alpha=0.0),
    "redi, options": lambda: REDI(min_rejected_length=3, floor=-2.0, gate=0.1),
    "redi, kd": lambda: REDI(chosen_weight=0.5, kd=ForwardKL(temperature=2.0), kd_weight=0.3),
    "unlikelihood": Unlikelihood,
    "dpo": lambda: DPO(beta=0.3),
    "simpo": SimPO,
}
assert set(OBJECTIVES) >= {name.split(",")[0] for name in BUILDS} == ELSEWHERE
law = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())

# chosen and rejected sequences in any order; the k-th ones of both are a pair
REJECTED = torch.tensor([False, True, False, False, True, True])
PAIRS = torch.tensor([[0, 2, 3], [1, 4, 5]])
LENGTHS = torch.tensor([5, 2, 3, 1, 4, 5])
MASK = torch.arange(T) < LENGTHS[:, None]


@pytest.fixture
def z(generator: torch.Generator) -> Tensor:
    return torch.randn(B, T, V, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.fixture
def p(generator: torch.Generator) -> Tensor:
    return torch.randn(B, T, V, dtype=torch.float64, generator=generator)


@pytest.fixture
def y(generator: torch.Generator) -> Tensor:
    return torch.randint(V, (B, T), generator=generator).masked_fill(~MASK, -100)


def make_inputs(
    z: Any, p: Tensor, y: Tensor, rows: Any = slice(None), mask: Tensor = MASK, **more: Any
) -> LossInputs:
    return LossInputs(z, p[rows], y[rows], mask[rows], rejected=REJECTED[rows], **more)


def grad(loss: Loss, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(loss.total, leaf, retain_graph=True)[0]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9)


@law
def test_value_and_gradient_are_those_of_the_slow_reference(
    build: Any, z: Tensor, p: Tensor, y: Tensor
) -> None:
    loss, expected = build()(make_inputs(z, p, y)), by_reference(build(), z, p, y, LENGTHS, PAIRS)
    close(loss.mean(), expected)
    close(grad(loss, z) / loss.count, torch.autograd.grad(expected, z)[0])
    assert not any(part.requires_grad for part in loss.parts.values())


@law
def test_a_constant_added_to_a_row_of_logits_changes_nothing(
    build: Any, z: Tensor, p: Tensor, y: Tensor
) -> None:
    rows = torch.linspace(-9, 9, T, dtype=torch.float64)[:, None]
    loss, shifted = build()(make_inputs(z, p, y)), build()(make_inputs(z + rows, p - 2 * rows, y))
    close(shifted.total, loss.total)
    close(grad(shifted, z), grad(loss, z))


@law
def test_the_order_of_the_vocabulary_does_not_matter(
    build: Any, z: Tensor, p: Tensor, y: Tensor
) -> None:
    order = torch.arange(V).roll(3).flip(0)
    renamed = torch.where(MASK, order.argsort()[y.clamp(min=0)], -100)
    loss = build()(make_inputs(z, p, y))
    permuted = build()(make_inputs(z[..., order], p[..., order], renamed))
    close(permuted.total, loss.total)
    close(grad(permuted, z), grad(loss, z))


@law
def test_columns_at_minus_infinity_are_outside_the_vocabulary(
    build: Any, z: Tensor, p: Tensor, y: Tensor
) -> None:
    outside = torch.full((B, T, 2), -torch.inf, dtype=torch.float64)
    loss = build()(make_inputs(z, p, y))
    padded = build()(make_inputs(torch.cat([z, outside], -1), torch.cat([p, outside], -1), y))
    close(padded.total, loss.total)
    close(grad(padded, z), grad(loss, z))


@law
def test_invalid_positions_do_not_leak(build: Any, z: Tensor, p: Tensor, y: Tensor) -> None:
    clean, out = build()(make_inputs(z, p, y)), ~MASK[..., None]
    for garbage in (torch.nan, torch.inf, -torch.inf):
        dirty = z.detach().masked_fill(out, garbage).requires_grad_()
        garbage_labels = y.masked_fill(~MASK, 10**6)
        loss = build()(make_inputs(dirty, p.masked_fill(out, garbage), garbage_labels))
        close(loss.total, clean.total)
        close(grad(loss, dirty), grad(clean, z))


@law
def test_padding_changes_nothing(build: Any, z: Tensor, p: Tensor, y: Tensor) -> None:
    loss = build()(make_inputs(z, p, y))
    more = torch.zeros(B, 3, V, dtype=torch.float64)
    mask = torch.cat([MASK, torch.zeros(B, 3, dtype=torch.bool)], 1)
    labels = torch.cat([y, torch.full((B, 3), -100)], 1)
    padded = build()(
        make_inputs(torch.cat([z, more], 1), torch.cat([p, more], 1), labels, mask=mask)
    )
    close(padded.total, loss.total)


@law
def test_no_sequence_is_zero_with_a_graph(build: Any, z: Tensor, p: Tensor, y: Tensor) -> None:
    loss = build()(make_inputs(z, p, y, mask=torch.zeros_like(MASK)))
    assert loss.count == 0
    assert loss.mean() == 0
    assert not grad(loss, z).any()


@law
def test_micro_batches_add_up(build: Any, z: Tensor, p: Tensor, y: Tensor) -> None:
    whole = build()(make_inputs(z, p, y))
    pieces = [build()(make_inputs(z[pair], p, y, pair)) for pair in PAIRS.T]
    close(sum((piece.total for piece in pieces), torch.zeros(())), whole.total)
    assert sum(piece.count for piece in pieces) == whole.count
    for name in whole.parts.keys() - {"short_rejected"}:
        total = sum((piece.parts[name] for piece in pieces), torch.zeros(()))
        close(total.double(), whole.parts[name].double())


@law
def test_half_precision_is_widened_first(build: Any, z: Tensor, p: Tensor, y: Tensor) -> None:
    for half in (torch.bfloat16, torch.float16):
        low = z.detach().to(half).requires_grad_()
        wide = low.detach().double().requires_grad_()
        loss = build()(make_inputs(low, p.to(half), y))
        exact = build()(make_inputs(wide, p.to(half).double(), y))
        assert loss.total.dtype == torch.float32
        torch.testing.assert_close(loss.total.double(), exact.total, rtol=1e-4, atol=1e-5)
        rounding = 2 * torch.finfo(half).eps
        torch.testing.assert_close(
            grad(loss, low).double(), grad(exact, wide), rtol=rounding, atol=1e-4
        )


@law
def test_gradcheck(build: Any, z: Tensor, p: Tensor, y: Tensor) -> None:
    objective = build()
    assert torch.autograd.gradcheck(lambda x: objective(make_inputs(x, p, y)).total, z)


@law
def test_hidden_states_and_a_head_give_what_their_logits_give(
    build: Any, p: Tensor, y: Tensor
) -> None:
    hidden = torch.randn(B, T, 3, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(3, V).double()
    dense = build()(make_inputs(head(hidden), p, y))
    expected = torch.autograd.grad(dense.total, (hidden, head.weight))
    for chunked in (False, Chunking(tokens=4, block=2)):
        lazy = build()(make_inputs(Projected(hidden, head), p, y, chunked=chunked))
        close(lazy.total, dense.total)
        for actual, wanted in zip(
            torch.autograd.grad(lazy.total, (hidden, head.weight)), expected, strict=True
        ):
            close(actual, wanted)


@law
def test_the_order_of_the_sequences_does_not_matter(
    build: Any, z: Tensor, p: Tensor, y: Tensor
) -> None:
    order = PAIRS.flip(0).flatten()  # all rejected ones first, in the same pairs
    loss, permuted = build()(make_inputs(z, p, y)), build()(make_inputs(z[order], p, y, order))
    close(permuted.total, loss.total)
    close(grad(permuted, z), grad(loss, z))


@law
def test_copies_and_pickles_are_the_same_and_forward_changes_nothing(
    build: Any, z: Tensor, p: Tensor, y: Tensor
) -> None:
    objective = build().train()
    expected = objective(make_inputs(z, p, y)).total
    for again in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective), objective):
        assert again(make_inputs(z, p, y)).total == expected
