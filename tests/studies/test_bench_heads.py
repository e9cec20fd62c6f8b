"""Every code that a benchmark measures computes the same, and each case ends with a verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kdlight.objectives import LossInputs, build_objective
from tests.benchmarks import bench_heads
from tests.benchmarks.fused_peers import BETA, Function, Work, rivals
from tests.benchmarks.head_cases import CASES, EVERY, Case, codes, matmuls, work
from tests.benchmarks.machine import header
from tests.benchmarks.memory import extra_mib
from tests.benchmarks.plain import PLAIN

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of torch.compile


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def values_and_grad(values: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
    return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


@pytest.mark.parametrize("name", EVERY)
def test_plain_torch_computes_the_same_loss(
    name: str, student: Tensor, teacher: Tensor, generator: torch.Generator
) -> None:
    vocabulary = 83  # more than the k of every top k
    student = torch.randn(9, vocabulary, dtype=torch.float64, generator=generator).requires_grad_()
    teacher = torch.randn(9, vocabulary, dtype=torch.float64, generator=generator) * 2
    labels = torch.randint(vocabulary, (9,), generator=generator)
    objective = build_objective(name).double()
    ours = objective(LossInputs(student, teacher, labels)).total
    expected = values_and_grad(PLAIN[name](student, teacher, labels), student)
    torch.testing.assert_close(ours.detach(), expected[0].sum(), rtol=1e-9, atol=1e-10)
    gradient = torch.autograd.grad(ours, student)[0]
    torch.testing.assert_close(gradient, expected[1], rtol=1e-7, atol=1e-9)


def results(function: Function, data: Work) -> list[Tensor]:
    data.hidden.grad = data.weight.grad = None
    loss = function(data)
    loss.backward()
    assert data.hidden.grad is not None
    assert data.weight.grad is not None
    return [loss.detach(), data.hidden.grad.clone(), data.weight.grad.clone()]


@pytest.mark.parametrize("objective", [*BETA, "taid", "cross_entropy"])
def test_all_codes_of_a_case_compute_the_same(objective: str) -> None:
    """Ours, plain torch, and the peers that are installed; TAID's authors leave out a constant."""
    case = Case(objective, torch.float32, 20, 61)
    data = work(case, (6, 9))
    found = codes(case, compiled=False)
    expected = results(found["plain"], data)
    for code, function in found.items():
        if code != "matmuls alone":
            loss = slice(1, None) if code == "taid authors" else slice(None)
            for one, other in zip(results(function, data)[loss], expected[loss], strict=True):
                torch.testing.assert_close(one, other, rtol=2e-4, atol=1e-6)


def test_compiled_codes_have_names_that_say_so() -> None:
    compiled = set(rivals("forward_kl", compiled=True)) - set(rivals("forward_kl", compiled=False))
    assert "plain, compiled" in compiled
    assert all("compiled" in name for name in compiled)


def test_the_bare_products_fill_nothing_but_their_buffers() -> None:
    data = work(Case("forward_kl", torch.float32, 1100, 40), (6, 9))
    assert matmuls(data) == 0
    assert data.hidden.grad is None


def test_extra_memory_is_that_of_the_work_alone() -> None:
    kept = torch.ones(2**22)  # 16 MiB that exist before

    def fill() -> None:
        torch.ones(2**24).add_(kept.sum())  # 64 MiB

    assert 60 < extra_mib(fill, "cpu") < 90


def test_the_header_names_instructions_threads_and_peers() -> None:
    printed = header()
    assert torch.backends.cpu.get_cpu_capability() in printed
    assert f"{torch.get_num_threads()} threads" in printed
    assert re.search(r"lightning \d", printed)


QUICK = ["--quick", "--threads", "1", "--rounds", "1"]


def test_a_trial_measures_each_case_and_judges_none(capsys: pytest.CaptureFixture) -> None:
    cases = ["forward_kl", "taid"]
    bench_heads.main([*QUICK, "--only", *cases])
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines() if "N=64" in line] == cases
    assert printed.count("-> a trial") == 2
    assert "of the time of" not in printed
    assert "compiled" not in printed


def test_a_case_is_measured_for_memory(capsys: pytest.CaptureFixture) -> None:
    bench_heads.main([*QUICK, "--peak", "taid", "ours"])
    assert 0 <= float(capsys.readouterr().out.split()[-1]) < 50


@pytest.mark.parametrize(
    ("ours", "mib", "verdict"),
    [(1.0, 9.0, "PASS"), (3.0, 9.0, "slower"), (1.0, 11.0, "memory is above")],
)
def test_the_verdict_of_a_case(ours: float, mib: float, verdict: str) -> None:
    turns = [
        {"ours": ours, "ours, compiled": 4.0, "matmuls alone": 0.1, "plain": 5.0, "trl": 2.0}
        for _ in range(3)
    ]
    line = bench_heads.summary(turns, {"ours": mib, "plain": 100.0})
    assert line.startswith(f"-> ours: {ours / 2:.2f} of the time of trl")
    assert line.endswith(f": {verdict}")


def test_every_case_is_known_by_its_name() -> None:
    assert set(EVERY) <= set(CASES)
    assert all(case[2:] == (2048, 32000) for case in EVERY.values())
