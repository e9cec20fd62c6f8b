"""The work of bench_heads.py and gpu.py: from hidden states and output heads to two gradients."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import nn

from kdlight.objectives import OBJECTIVES, LossInputs, TokenObjective, build_objective
from kdlight.reduce import Chunking
from kdlight.sources import Projected
from tests.benchmarks.fused_peers import Function, Work, rivals
from tests.benchmarks.plain import PLAIN

MATMULS = "matmuls alone"


class Case(NamedTuple):
    """A row of the table."""

    objective: str
    dtype: torch.dtype
    rows: int
    vocabulary: int


CASES = {
    "fkl-bf16-32k": Case("forward_kl", torch.bfloat16, 2048, 32000),
    "fkl-bf16-152k": Case("forward_kl", torch.bfloat16, 512, 151936),
    "jsd-bf16-32k": Case("jensen_shannon", torch.bfloat16, 2048, 32000),
    "taid-bf16-32k": Case("taid", torch.bfloat16, 2048, 32000),
    "fkl-f32-32k": Case("forward_kl", torch.float32, 2048, 32000),
    "jsd-f32-32k": Case("jensen_shannon", torch.float32, 2048, 32000),
}
TABLE = tuple(CASES)
"""The cases that are measured with the memory of every code, unless others are named."""

EVERY = {
    name: Case(name, torch.bfloat16, 2048, 32000)
    for name, kind in OBJECTIVES.items()
    if issubclass(kind, TokenObjective) and name in PLAIN
}
"""Every sum over tokens that has a plain form, at the size of the issue's goals."""

TOO_BIG = {  # for plain torch in 24 GiB: with --ours-only
    "fkl-bf16-152k-2k": Case("forward_kl", torch.bfloat16, 2048, 151936),
    "fkl-bf16-152k-8k": Case("forward_kl", torch.bfloat16, 8192, 151936),
}
CASES |= EVERY | TOO_BIG


def work(case: Case, widths: tuple[int, int], device: str = "cpu") -> Work:
    """Random inputs whose logits have a spread of a trained model's."""
    generator = torch.Generator(device).manual_seed(0)

    def tensor(*shape: int, scale: float = 1.0) -> torch.Tensor:
        made = torch.randn(*shape, generator=generator, device=device).mul_(scale)
        return made.to(case.dtype)

    student, teacher = widths
    return Work(
        hidden=tensor(case.rows, student).requires_grad_(),
        weight=nn.Parameter(tensor(case.vocabulary, student, scale=2 * student**-0.5)),
        teacher_hidden=tensor(case.rows, teacher),
        teacher_weight=nn.Parameter(
            tensor(case.vocabulary, teacher, scale=2 * teacher**-0.5), requires_grad=False
        ),
        labels=torch.randint(case.vocabulary, (case.rows,), generator=generator, device=device),
    )


def ours(case: Case, chunking: Chunking) -> Function:
    """The objective through the chunked driver."""
    objective = build_objective(case.objective)

    def loss(data: Work) -> torch.Tensor:
        objective.to(data.hidden.device)
        step = LossInputs(
            Projected(data.hidden, head(data.weight)),
            Projected(data.teacher_hidden, head(data.teacher_weight)),
            data.labels,
            chunked=chunking,
        )
        return objective(step).mean()

    return loss


def matmuls(data: Work) -> torch.Tensor:
    """The four products that everybody has to make, 512 rows at a time, and nothing else."""
    rows = 512 if data.hidden.device.type == "cpu" else 2048
    with torch.no_grad():
        buffers = [data.hidden.new_empty(rows, len(data.weight)) for _ in range(2)]
        gradient, product = torch.empty_like(data.hidden), torch.empty_like(data.weight)
        for start in range(0, len(data.hidden), rows):
            hidden = data.hidden[start : start + rows]
            teacher = data.teacher_hidden[start : start + rows]
            student_logits, teacher_logits = (each[: len(hidden)] for each in buffers)
            torch.mm(hidden, data.weight.t(), out=student_logits)
            torch.mm(teacher, data.teacher_weight.t(), out=teacher_logits)
            torch.mm(student_logits, data.weight, out=gradient[start : start + rows])
            torch.mm(student_logits.t(), hidden, out=product)
    return torch.zeros((), requires_grad=True)


def head(weight: nn.Parameter) -> nn.Linear:
    """A linear head with these weights, without a copy."""
    linear = nn.Linear(*weight.shape[::-1], bias=False, device="meta")
    linear.weight = weight
    return linear


def codes(
    case: Case,
    *,
    device: str = "cpu",
    chunk: int | None = None,
    compiled: bool = True,
    others: bool = True,
) -> dict[str, Function]:
    """All that there is for a case, ours first, what is compiled last."""
    found = {"ours": ours(case, Chunking(tokens=chunk)), MATMULS: matmuls}
    if others:
        found |= rivals(case.objective, compiled=False, device=device)
    if compiled:
        found["ours, compiled"] = ours(case, Chunking(tokens=chunk, compiled=True))
    if compiled and others:
        found |= rivals(case.objective, compiled=True, device=device)
    return found


def step(function: Function, data: Work) -> float:
    """Seconds of one forward and backward pass."""
    data.hidden.grad = data.weight.grad = None
    if not data.hidden.is_cuda:
        start = time.perf_counter()
        function(data).backward()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    function(data).backward()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3
