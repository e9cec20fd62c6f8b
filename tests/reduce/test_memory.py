"""The memory of a loss in chunks does not grow with the number of tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MEASURE = """
import json, sys, torch
from pathlib import Path
from torch import nn
from kdlight import Chunking, Projected
from kdlight.objectives import LossInputs, build_objective

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

name, rows, vocabulary, chunked = json.loads(sys.argv[1])
torch.manual_seed(0)
torch.set_num_threads(1)
head, teacher = nn.Linear(16, vocabulary), nn.Linear(16, vocabulary).requires_grad_(False)

def evaluate(rows):
    hidden = torch.randn(rows, 16, requires_grad=True)
    labels = torch.randint(vocabulary, (rows,))
    sources = Projected(hidden, head), Projected(torch.randn(rows, 16), teacher)
    build_objective(name)(LossInputs(*sources, labels, chunked=chunked)).total.backward()

evaluate(8)
before = peak()
evaluate(rows)
print(peak() - before)
"""


def peak_mib(name: str, rows: int, vocabulary: int, chunked: Any) -> float:
    arguments = json.dumps([name, rows, vocabulary, chunked])
    command = [sys.executable, "-c", MEASURE, arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("name", ["forward_kl", "todi"])  # with a closed form, and without
def test_memory_does_not_grow_with_the_number_of_tokens(name):
    rows, vocabulary = 4096, 16000
    logits = rows * vocabulary * 4 / 2**20  # 250 MiB for student or teacher
    dense = peak_mib(name, rows, vocabulary, False)
    # an allocator may hold more for a while, so that only the smallest of some peaks is needed
    few, many = (
        min(peak_mib(name, n, vocabulary, True) for _ in range(3)) for n in (rows // 4, rows)
    )
    assert dense > 3 * logits
    assert many < logits
    assert many < few + 0.5 * logits
    assert many < 0.25 * dense
