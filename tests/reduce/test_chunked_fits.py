"""Whole fits and compiled code with the chunked driver, and what it holds in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from kdlight import Chunking
from kdlight.objectives import TAID, build_objective
from tests.reduce.test_chunked import Data, same
from tests.support import toy


class Losses(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.losses.append(pl_module.last_step.loss)


def curve(folder: Path, chunked: Any, network: str = "llama", **changes: Any) -> list[float]:
    module = toy.module(network=network, chunked=chunked)
    if changes.get("compile"):
        module.student = torch.compile(module.student, backend="eager")  # type: ignore[assignment]
    if changes.get("checkpointing"):
        model: Any = module.student.model
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)()  # the name that transformers 5.20 has
    seen = Losses()
    toy.trainer(folder, max_steps=4, callbacks=[seen]).fit(module, toy.loader(4))
    return seen.losses


@pytest.mark.parametrize("changes", [{}, {"checkpointing": True}, {"compile": True}], ids=str)
def test_a_language_model_learns_along_the_same_curve(tmp_path, changes):
    dense = curve(tmp_path, False)
    assert len(set(dense)) == 4
    assert curve(tmp_path, Chunking(9, 4), **changes) == pytest.approx(dense, rel=1e-5)


def test_a_fit_says_once_what_it_chose(tmp_path, caplog):
    toy.trainer(tmp_path, max_steps=3).fit(toy.module(), toy.loader(4))
    toy.trainer(tmp_path, max_steps=3).fit(toy.module(chunked=True), toy.loader(4))
    said = [line for line in caplog.messages if line.startswith("kdlight: logits")]
    assert [line.split("are made ")[1].split(" (")[0].split(" of ")[0] for line in said] == [
        "all at once",
        "in chunks",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("name", ["forward_kl", "taid", "todi"])
def test_compiled_blocks_give_the_same(name):
    torch.compiler.reset()
    data, objective = Data(torch.float32), build_objective(name)
    compiled = Chunking(5, 2, compiled=True)
    same(data.found(objective, compiled), data.found(objective, False), rtol=1e-5)
    if isinstance(objective, TAID):
        for objective.t in (0.1, 0.5, 1.0):  # a schedule moves it
            same(data.found(objective, compiled), data.found(objective, False), rtol=1e-5)
    forbidden = torch.zeros(17).index_fill(0, torch.tensor(3), -torch.inf)
    ours, plain = (
        data.found(objective, how, student=data.student.logits() + forbidden)
        for how in (compiled, False)
    )
    same(ours, plain, rtol=1e-5)


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

def step(rows):
    hidden = torch.randn(rows, 16, requires_grad=True)
    labels = torch.randint(vocabulary, (rows,))
    sources = Projected(hidden, head), Projected(torch.randn(rows, 16), teacher)
    build_objective(name)(LossInputs(*sources, labels, chunked=chunked)).total.backward()

step(8)
before = peak()
step(rows)
print(peak() - before)
"""


def peak_mib(name: str, rows: int, vocabulary: int, chunked: Any) -> float:
    arguments = json.dumps([name, rows, vocabulary, chunked])
    command = [sys.executable, "-c", MEASURE, arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("name", ["forward_kl", "todi"])  # with a closed form, and without
def test_memory_does_not_grow_with_the_tokens(name):
    rows, vocabulary = 4096, 16000
    logits = rows * vocabulary * 4 / 2**20  # 250 MiB for one of the two sides
    dense = peak_mib(name, rows, vocabulary, False)
    few, many = (peak_mib(name, n, vocabulary, True) for n in (rows // 4, rows))
    assert dense > 3 * logits
    assert many < logits
    assert many < few + 0.5 * logits
    assert many < 0.25 * dense
