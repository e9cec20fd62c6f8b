"""One code of bench_heads.py at the size that peers publish, for `gpu.py`: time and memory.

Prints a line of JSON for each divergence that the code has. Memory is what torch allocates at the
peak beyond the inputs, logits and gradients of both sides included.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch

from tests.benchmarks.fused_peers import BETA, Work, missing
from tests.benchmarks.head_cases import Case, codes, step, work
from tests.benchmarks.memory import extra_mib

PUBLISHED = (8192, 4096, 128256)
"""Tokens, width of both hidden states, vocabulary of Liger's published figures."""

SMALL = (64, 16, 512)
OBJECTIVES = ("jensen_shannon", "forward_kl")
ROUNDS = 5


def measure(code: str, objective: str, data: Work, device: str) -> dict[str, Any]:
    """Median milliseconds of a step, and its memory, or why there are none."""
    case = Case(objective, data.hidden.dtype, len(data.hidden), len(data.weight))
    found = codes(case, device=device)
    if code not in found:
        reason = [f"{peer}: {why}" for peer, why in missing.items() if peer in code]
        return {"error": "; ".join(reason) or "has no such divergence on this device"}
    try:
        step(found[code], data)  # compiles, and sets up kernels and buffers
        seconds = [step(found[code], data) for _ in range(ROUNDS)]
        data.hidden.grad = data.weight.grad = None
        mib = extra_mib(lambda: step(found[code], data), device)
    except Exception as error:  # out of memory, or a kernel that this card does not run
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"ms": 1e3 * statistics.median(seconds), "mib": mib}


def main() -> None:
    """Measure all divergences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("code")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    rows, width, vocabulary = SMALL if options.small else PUBLISHED
    for objective in OBJECTIVES:
        assert objective in BETA
        case = Case(objective, torch.bfloat16, rows, vocabulary)
        data = work(case, (width, width), options.device)
        result = measure(options.code, objective, data, options.device)
        print("@" + json.dumps({"objective": objective, **result}), flush=True)
        del data
        if options.device != "cpu":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
