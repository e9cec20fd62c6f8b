"""What only a GPU shows: the same numbers as on a CPU, waits of the host, and runs that resume."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdlight import Chunking
from kdlight.objectives import (
    OBJECTIVES,
    CrossEntropy,
    LossInputs,
    TokenObjective,
    Weighted,
    build_objective,
)
from kdlight.sources import Projected
from tests.callbacks.test_exact_resume import check_same
from tests.support import resume_fit

DEVICE = "cuda"
ROWS, VOCABULARY = 37, 1111
CHUNKS = Chunking(tokens=16, block=5)
ON_TOKENS = sorted(name for name, kind in OBJECTIVES.items() if issubclass(kind, TokenObjective))

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def inputs(device: str, *, chunked: bool | Chunking) -> LossInputs:
    """The same hidden states and heads on any device."""
    generator = torch.Generator().manual_seed(0)

    def source(width: int, *, trained: bool) -> Projected:
        hidden = torch.randn(ROWS, width, generator=generator, dtype=torch.float64)
        head = nn.Linear(width, VOCABULARY, bias=False, dtype=torch.float64)
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
        head = head.requires_grad_(trained).to(device)
        return Projected(hidden.to(device).requires_grad_(trained), head)

    student, teacher = source(6, trained=True), source(9, trained=False)
    labels = torch.randint(VOCABULARY, (ROWS,), generator=generator).to(device)
    return LossInputs(student, teacher, labels, mask=labels % 7 != 0, chunked=chunked)


def loss_and_gradients(objective: nn.Module, step: LossInputs) -> list[Tensor]:
    """The sum, and its gradients in hidden states, head and the parameters of the objective."""
    student = step.student
    assert isinstance(student, Projected)
    assert isinstance(student.head, nn.Linear)
    own = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    leaves = [student.hidden, student.head.weight, *own]
    total = objective(step).total
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    return [total.detach().cpu(), *(g.cpu() for g in gradients if g is not None)]


def made(name: str) -> nn.Module:
    """An objective with the same initial weights each time."""
    torch.manual_seed(0)
    return build_objective(name).double()


@pytest.mark.parametrize("name", ON_TOKENS)
def test_a_chunked_loss_on_a_gpu_equals_that_of_all_logits_on_a_cpu(name: str) -> None:
    expected = loss_and_gradients(made(name), inputs("cpu", chunked=False))
    found = loss_and_gradients(made(name).to(DEVICE), inputs(DEVICE, chunked=CHUNKS))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # within torch.compile
@pytest.mark.parametrize("name", ["forward_kl", "jensen_shannon", "taid", "adaptive_kl"])
def test_a_compiled_driver_on_a_gpu_equals_an_eager_one(name: str) -> None:
    compiled = Chunking(tokens=16, block=5, compiled=True)
    expected = loss_and_gradients(made(name).to(DEVICE), inputs(DEVICE, chunked=CHUNKS))
    found = loss_and_gradients(made(name).to(DEVICE), inputs(DEVICE, chunked=compiled))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def waits(work: Callable[[], object]) -> list[str]:
    """The operations that made the host wait for the GPU."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [str(each.message) for each in caught if "called a synchronizing" in str(each.message)]


def test_waits_are_found() -> None:
    numbers = torch.arange(3, device=DEVICE)
    assert len(waits(lambda: numbers.sum().item())) == 1
    assert waits(lambda: numbers + 1) == []


@pytest.mark.parametrize("name", [*ON_TOKENS, "weighted"])
@pytest.mark.parametrize("chunked", [False, CHUNKS], ids=["at once", "chunked"])
def test_a_loss_waits_at_most_once(name: str, chunked: bool | Chunking) -> None:
    """For the number of valid positions, which decides on the size of what follows."""
    terms = {"kd": made("forward_kl"), "ce": CrossEntropy()}
    objective = (Weighted(terms) if name == "weighted" else made(name)).to(DEVICE)  # type: ignore[arg-type]
    step = inputs(DEVICE, chunked=chunked)
    loss_and_gradients(objective, step)  # what is set up once may wait
    assert len(waits(lambda: objective(step).total.backward())) <= 1


@pytest.mark.slow
def test_a_run_resumed_on_a_gpu_continues_to_the_same_bits(tmp_path: Path) -> None:
    options = {"accelerator": "gpu", "trainer": {"max_epochs": 2}}
    saving = resume_fit.SaveEverywhere(tmp_path / "saved")
    first = resume_fit.fit(tmp_path / "first", [saving], **options)
    again = resume_fit.fit(tmp_path / "again", [], **options)
    check_same(again, first, logged=len(first["rows"]), name="the fit itself is deterministic")
    for path, logged in list(saving.saved.items())[::3]:
        resumed = resume_fit.fit(tmp_path, [], resume=str(path), seed=1, **options)
        check_same(resumed, first, logged=logged + 1, name=path.name)
