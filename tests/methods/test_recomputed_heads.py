"""Heads that run more than once: the same autocast and the same dropout each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Chunking, LossInputs, Projected
from kdlight.objectives import OBJECTIVES, Loss, Objective, Sinkhorn, build_objective
from kdlight.sources import LogitsSource
from kdlight.sources.aligned import Aligned, Alignment
from kdlight.sources.detached import Detached
from kdlight.sources.mixture import Mixture
from kdlight.sources.stacked import Stacked
from kdlight.sources.transformed import Moved
from tests.objectives.features.samples import FEATURES

B, T, D, V = 4, 5, 6, 9
CPU = torch.device("cpu")
NAMES = sorted({*OBJECTIVES} - {"topk_forward_kl"} - FEATURES) + ["sinkhorn"]
SMOOTH = ["dpo", "simpo", "redi", "sinkhorn", "uld", "multi_level_ot", "forward_kl"]
CHUNKS: dict[str, Any] = {"chunks": Chunking(tokens=3, block=2), "auto": "auto", "at once": False}


class Head(nn.Module):
    """A head that is more than a product."""

    def __init__(self, *, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.product = nn.Linear(D, V, dtype=dtype)
        self.dropout, self.out_features = nn.Dropout(dropout), V

    def forward(self, hidden: Tensor) -> Tensor:
        return self.product(self.dropout(hidden))


HEADS: dict[str, Callable[[], nn.Module]] = {"linear": lambda: nn.Linear(D, V), "module": Head}


def make(name: str) -> Objective:
    return Sinkhorn() if name == "sinkhorn" else build_objective(name)


def inputs(student: Any, teacher: Any, chunked: Any) -> LossInputs:
    labels = torch.arange(B * T).view(B, T) % V
    rejected = torch.tensor([False, True] * (B // 2))
    return LossInputs(
        student,
        teacher,
        labels,
        labels != 4,
        rejected=rejected,
        span_ids=torch.zeros_like(labels),
        chunked=chunked,
    )


def hidden(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, T, D, generator=generator, dtype=torch.float64).to(dtype)


def gradients(loss: Loss, source: Projected) -> list[Tensor]:
    assert isinstance(source.head, nn.Module)
    leaves = [source.hidden, *source.head.parameters()]
    return list(torch.autograd.grad(loss.total, leaves))


@pytest.mark.parametrize("chunked", CHUNKS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_all_products_of_a_step_have_the_dtype_of_its_autocast(
    name: str, head: str, chunked: str
) -> None:
    """The hidden states come from a product, so that they are in half precision, too."""
    torch.manual_seed(0)
    student_head, teacher_head = HEADS[head](), HEADS[head]().requires_grad_(False)
    dtypes: list[torch.dtype] = []
    for each in (student_head, teacher_head):
        if head == "module":  # a hook would make another head of a Linear
            each.product.register_forward_hook(lambda m, args, out: dtypes.append(out.dtype))  # type: ignore[union-attr]
    results = []
    for how in (CHUNKS[chunked], False):
        torch.manual_seed(1)  # of networks in the objective
        with torch.autocast("cpu", torch.bfloat16):
            student = Projected(hidden(1).bfloat16().requires_grad_(), student_head)
            loss = make(name)(inputs(student, Projected(hidden(2).bfloat16(), teacher_head), how))
        results.append([loss.total.detach(), *gradients(loss, student)])
    assert set(dtypes) <= {torch.bfloat16}
    for one, other in zip(*results, strict=True):
        assert (one - other).float().norm() <= 0.03 * other.float().norm()


@pytest.mark.parametrize("chunked", CHUNKS)
@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_of_a_head_with_dropout_is_the_slope_of_its_loss(
    name: str, chunked: str
) -> None:
    torch.manual_seed(0)
    head = Head(dropout=0.5, dtype=torch.float64)
    teacher_head = Head(dropout=0.5, dtype=torch.float64).requires_grad_(False)
    teacher = Projected(hidden(2, torch.float64), teacher_head)
    objective = make(name)

    def evaluate(states: Tensor) -> tuple[Loss, Projected]:
        torch.manual_seed(3)
        student = Projected(states.detach().requires_grad_(), head)
        return objective(inputs(student, teacher, CHUNKS[chunked])), student

    states, direction, size = hidden(1, torch.float64), hidden(5, torch.float64), 1e-6
    loss, student = evaluate(states)
    after = torch.get_rng_state()
    grad, *_ = gradients(loss, student)
    assert torch.equal(torch.get_rng_state(), after)  # the backward pass uses up no numbers
    ahead, behind = (evaluate(states + s * size * direction)[0].total.item() for s in (1, -1))
    assert (grad * direction).sum().item() == pytest.approx((ahead - behind) / (2 * size), rel=1e-5)


def sources(projected: Projected) -> dict[str, LogitsSource]:
    """A teacher of each type that holds another one."""
    same = torch.arange(V)
    owner, place = torch.zeros(B, T, dtype=torch.long), torch.arange(B * T).view(B, T)
    return {
        "mixture": Mixture((projected, projected), (0.5, 0.5)),
        "aligned": Aligned(projected, Alignment(same, same, V, V)),
        "detached": Detached(projected),
        "moved": Moved(projected, CPU, CPU),
        "stacked": Stacked((projected,), owner, place),
    }


@pytest.mark.parametrize("name", ["forward_kl", "sinkhorn", "dpo", "multi_level_ot"])
@pytest.mark.parametrize("kind", ["mixture", "aligned", "detached", "moved", "stacked"])
def test_a_teacher_of_any_type_runs_under_the_autocast(kind: str, name: str) -> None:
    torch.manual_seed(0)
    projected = Projected(hidden(2).bfloat16(), Head().requires_grad_(False))
    student_head = nn.Linear(D, V)
    totals = []
    for teacher in (sources(projected)[kind], projected):
        with torch.autocast("cpu", torch.bfloat16):
            student = Projected(hidden(1).bfloat16().requires_grad_(), student_head)
            loss = make(name)(inputs(student, teacher, Chunking(tokens=3, block=2)))
        assert all(each.isfinite().all() for each in gradients(loss, student))
        totals.append(loss.total.item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-2)
