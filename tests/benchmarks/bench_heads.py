"""From hidden states and output heads to loss and gradients: the chunked driver and its rivals.

``python tests/benchmarks/bench_heads.py [--rounds 5] [--only CASE ...] [--no-memory]``

Each case makes the gradients of the student's hidden states and head, of widths 256 and 512 for
student and teacher (``--widths``), from inputs that exist. "plain" is the textbook form: both
logits in full, ``log_softmax``, autograd. Times are medians of interleaved runs in one process, as
ratios to the columns named; peak memory is what a fresh process needs beyond its inputs. Peers are
measured where they can be imported.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch  # noqa: E402
from fused_peers import Work, missing, rivals  # noqa: E402
from plain import PLAIN  # noqa: E402
from torch import nn  # noqa: E402

from kdlight.objectives import OBJECTIVES, LossInputs, TokenObjective, build_objective  # noqa: E402
from kdlight.reduce import Chunking  # noqa: E402
from kdlight.sources import Projected  # noqa: E402

Function = Callable[[Work], torch.Tensor]


class Case(NamedTuple):
    """A row of the table."""

    objective: str
    dtype: torch.dtype
    rows: int
    vocabulary: int


CASES = {  # those of TABLE are measured unless --only names others
    "fkl-bf16-32k": Case("forward_kl", torch.bfloat16, 2048, 32000),
    "fkl-bf16-152k": Case("forward_kl", torch.bfloat16, 512, 151936),
    "jsd-bf16-32k": Case("jensen_shannon", torch.bfloat16, 2048, 32000),
    "taid-bf16-32k": Case("taid", torch.bfloat16, 2048, 32000),
    "fkl-f32-32k": Case("forward_kl", torch.float32, 2048, 32000),
    "jsd-f32-32k": Case("jensen_shannon", torch.float32, 2048, 32000),
}
CASES |= {  # too big for plain torch in 24 GiB: with --ours-only
    "fkl-bf16-152k-2k": Case("forward_kl", torch.bfloat16, 2048, 151936),
    "fkl-bf16-152k-8k": Case("forward_kl", torch.bfloat16, 8192, 151936),
}
CASES |= {
    name: Case(name, torch.bfloat16, 1024, 32000)
    for name, kind in OBJECTIVES.items()
    if issubclass(kind, TokenObjective) and name in PLAIN
}
TABLE = ("fkl-bf16-32k", "fkl-bf16-152k", "jsd-bf16-32k", "taid-bf16-32k", "fkl-f32-32k")
TABLE += ("jsd-f32-32k",)


def work(case: Case, widths: tuple[int, int], device: str = "cpu") -> Work:
    """Random inputs whose logits have a spread of a trained model's."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int, scale: float = 1.0) -> torch.Tensor:
        made = torch.randn(*shape, generator=generator).mul_(scale)
        return made.to(device=device, dtype=case.dtype)

    student, teacher = widths
    return Work(
        hidden=tensor(case.rows, student).requires_grad_(),
        weight=nn.Parameter(tensor(case.vocabulary, student, scale=2 * student**-0.5)),
        teacher_hidden=tensor(case.rows, teacher),
        teacher_weight=nn.Parameter(
            tensor(case.vocabulary, teacher, scale=2 * teacher**-0.5), requires_grad=False
        ),
        labels=torch.randint(case.vocabulary, (case.rows,), generator=generator).to(device),
    )


def ours(case: Case, chunking: Chunking) -> Function:
    objective = build_objective(case.objective)

    def loss(data: Work) -> torch.Tensor:
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
    with torch.no_grad():
        buffers = [data.hidden.new_empty(512, len(data.weight)) for _ in range(2)]
        gradient, product = torch.empty_like(data.hidden), torch.empty_like(data.weight)
        for start in range(0, len(data.hidden), 512):
            hidden = data.hidden[start : start + 512]
            teacher = data.teacher_hidden[start : start + 512]
            student_logits, teacher_logits = (each[: len(hidden)] for each in buffers)
            torch.mm(hidden, data.weight.t(), out=student_logits)
            torch.mm(teacher, data.teacher_weight.t(), out=teacher_logits)
            torch.mm(student_logits, data.weight, out=gradient[start : start + 512])
            torch.mm(student_logits.t(), hidden, out=product)
    return torch.zeros((), requires_grad=True)


def head(weight: nn.Parameter) -> nn.Linear:
    linear = nn.Linear(*weight.shape[::-1], bias=False, device="meta")
    linear.weight = weight
    return linear


def codes(case: Case, options: argparse.Namespace) -> dict[str, Function]:
    """All that there is for a case, ours first, what is compiled last."""
    chunk = options.chunk
    found = {"ours": ours(case, Chunking(tokens=chunk)), "matmuls alone": matmuls}
    if not options.ours_only:
        found |= rivals(case.objective, compiled=False)
    if not options.no_compiled:
        found["ours, compiled"] = ours(case, Chunking(tokens=chunk, compiled=True))
    if not (options.no_compiled or options.ours_only):
        found |= rivals(case.objective, compiled=True)
    return found


def step(function: Function, data: Work) -> float:
    """Seconds of one forward and backward pass."""
    data.hidden.grad = data.weight.grad = None
    _wait(data)
    start = time.perf_counter()
    function(data).backward()
    _wait(data)
    return time.perf_counter() - start


def _wait(data: Work) -> None:
    if data.hidden.is_cuda:
        torch.cuda.synchronize()


def high_water_mib() -> float:
    """This process's own peak; ru_maxrss would count the parent that it was forked from."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def peak_mib(name: str, code: str, options: argparse.Namespace) -> float:
    """What a fresh process needs beyond its inputs, in MiB."""
    command = [sys.executable, __file__, "--peak", name, code, "--threads", str(options.threads)]
    command += ["--chunk", str(options.chunk or 0), "--widths", *map(str, options.widths)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1])  # peers talk as they are imported


def measure_peak(name: str, code: str, options: argparse.Namespace) -> None:
    data = work(CASES[name], tuple(options.widths), options.device)
    function = codes(CASES[name], options)[code]
    if "compiled" in code:  # compiling takes memory of its own, once
        step(function, data)
    if options.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(function, data)
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    step_small = CASES[name]._replace(rows=8)
    step(function, work(step_small, tuple(options.widths)))  # threads and kernels are set up
    data.hidden.grad = data.weight.grad = None
    ctypes.CDLL(None).malloc_trim(0)  # what the C library kept would hide what is needed
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water_mib()
    step(function, data)
    print(high_water_mib() - before)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(TABLE))
    parser.add_argument("--chunk", type=int, default=None, help="tokens of a chunk of ours")
    parser.add_argument("--widths", nargs=2, type=int, default=[256, 512])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-compiled", action="store_true")
    parser.add_argument(
        "--ours-only", action="store_true", help="beside the bare matmuls in place of plain torch"
    )
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "CODE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.chunk = options.chunk or None
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if options.peak:
        name, code = options.peak
        measure_peak(name, code, options)
        return
    for name in options.only:
        case = CASES[name]
        functions = codes(case, options)
        data = work(case, tuple(options.widths), options.device)
        times = [
            [step(function, data) for function in functions.values()]
            for _ in range(options.rounds + 1)
        ][1:]
        print(f"\n{name}: {case.objective}, {case.dtype}, N={case.rows}, V={case.vocabulary}")
        print(f"{'code':<22} {'ms':>8} {'/ plain':>8} {'ours/it':>8} {'MiB':>7}")
        plain = list(functions).index("matmuls alone" if options.ours_only else "plain")
        for index, code in enumerate(functions):
            seconds = statistics.median(row[index] for row in times)
            to_plain = statistics.median(row[index] / row[plain] for row in times)
            mine = list(functions).index("ours, compiled") if "compiled" in code else 0
            ratio = statistics.median(row[mine] / row[index] for row in times)
            memory = "-" if options.no_memory else f"{peak_mib(name, code, options):.0f}"
            print(
                f"{code:<22} {1e3 * seconds:8.1f} {to_plain:8.2f} {ratio:8.2f} {memory:>7}",
                flush=True,
            )
    for peer, reason in missing.items():
        print(f"{peer}: not measured ({reason})")


if __name__ == "__main__":
    main()
