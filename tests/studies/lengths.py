"""A study: chains of five lengths of one teacher, and what a student learns from which of them.

    python -m tests.studies.lengths --output FOLDER

Prompts are sums of digits by reasoning-gym, which also scores every answer. The teacher is a small
model trained here; it is asked for each of five lengths, from the result alone to every step done
and checked, and all of its answers are verified. The prompts that it solves at every length are
used, so that all students see the same prompts and differ in the chains only.

A student starts from a model that was trained for a while on worked solutions of other prompts, of
all lengths. It learns from the teacher's chains of one length, or of all of them; by a curriculum
from long to short or from short to long; or from long and short chains with a marker before the
prompt, asked with either (C3oT). The student of all chains goes on with pairs of a short and a long
chain (SimPO, DPO). Every student has the same number of steps: five passes over one chain of each
prompt. Results are kept in the folder, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from kdlight import CausalLM
from kdlight.data import TracesDataModule, read_traces
from kdlight.data.traces import Sampling, Trace, generate_traces, write_traces
from kdlight.data.traces.verification.verifiers import reasoning_gym
from kdlight.data.traces.verification.verify import verify_traces
from kdlight.objectives import DPO, CrossEntropy, Objective, SimPO
from tests.studies.lengths_task import LEVELS, ROOM, marked, measure, solve, unmarked
from tests.studies.redi import quiet
from tests.studies.redi_task import TOKENIZER, fit, sums
from tests.support import tiny_lm

BATCH = 16
BASE = "before"
TERMS = 4


def only(level: int) -> Callable[[list[Trace]], list[Trace]]:
    return lambda traces: [trace for trace in traces if trace.meta["level"] == level]


# Each student: options of the data, and the markers with which it is asked.
STUDENTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "long (every step, checked)": ({"select": only(5)}, ("",)),
    "every step": ({"select": only(4)}, ("",)),
    "every partial sum": ({"select": only(3)}, ("",)),
    "every second partial sum": ({"select": only(2)}, ("",)),
    "short (the result alone)": ({"select": only(1)}, ("",)),
    "mixed": ({"per_prompt": None}, ("",)),
    "curriculum, long to short": ({"curriculum": "long_to_short"}, ("",)),
    "curriculum, short to long": ({"curriculum": "short_to_long"}, ("",)),
    "long and short with markers": (
        {"select": [{"length_control": {"long": "L", "short": "S"}}]},
        ("L ", "S "),
    ),
}
PAIRS: dict[str, Callable[[], Objective]] = {
    "mixed, then SimPO on pairs": lambda: SimPO(beta=2.0, gamma=1.0),
    "mixed, then DPO on pairs": lambda: DPO(beta=0.1),
}


def data(file: Path, seed: int, **options: Any) -> TracesDataModule:
    return TracesDataModule(
        TOKENIZER,
        str(file),
        validation_fraction=0.0,
        seed=seed,
        **{"batch_size": BATCH, **options},
    )


def prepare(folder: Path, sizes: argparse.Namespace) -> tuple[Path, list[Trace]]:
    """Return the file of the teacher's verified chains, and prompts that no student sees."""
    prompts = sums(sizes.prompts, seed=0, max_terms=TERMS)
    seen = {prompt.prompt_id for prompt in prompts}
    others = sums(sizes.prompts, seed=10**6, max_terms=TERMS)
    unseen = [prompt for prompt in others if prompt.prompt_id not in seen][: sizes.held]
    path = folder / "chains.jsonl"
    if path.exists():
        return path, unseen
    lessons = folder / "lessons.jsonl"
    write_traces(lessons, (solve(prompt, level) for prompt in prompts for level in LEVELS))
    teacher = CausalLM.wrap(tiny_lm.model(dim=64))
    fit(
        teacher,
        data(lessons, 0, per_prompt=None, batch_size=4 * BATCH),
        CrossEntropy(),
        folder,
        steps=sizes.teacher_steps,
        lr=5e-3,
    )
    chains = []
    for level in LEVELS:
        asked = [marked(prompt, level) for prompt in prompts]
        raw = generate_traces(
            teacher,
            TOKENIZER,
            asked,
            folder / f"level{level}.jsonl",
            sampling=Sampling(max_new_tokens=ROOM, temperature=0.0),
            samples=1,
            chat=False,
            batch_size=500,
        )
        right, wrong, unfinished = verify_traces(read_traces(str(raw)), reasoning_gym)
        size = fmean(trace.n_tokens or 0 for trace in right)
        total = len(right) + len(wrong) + len(unfinished)
        print(f"level {level}: {len(right)} of {total} right, {size:.1f} tokens", flush=True)
        chains += [unmarked(trace) for trace in right]
    complete: dict[str, set[int]] = {}
    for trace in chains:
        complete.setdefault(trace.prompt_id, set()).add(trace.meta["level"])
    chains = [trace for trace in chains if len(complete[trace.prompt_id]) == len(LEVELS)]
    print(f"{len(chains) // len(LEVELS)} prompts are solved at every length", flush=True)
    write_traces(path, chains)
    return path, unseen


def base(
    file: Path, held: list[Trace], folder: Path, seed: int, steps: int
) -> dict[str, dict[str, float]]:
    """Train the student that all others start from, on worked solutions of other prompts."""
    taken = {trace.prompt_id for trace in (*read_traces(str(file)), *held)}
    prompts = [p for p in sums(4000, seed=2 * 10**6, max_terms=TERMS) if p.prompt_id not in taken]
    lessons = folder / "base.jsonl"
    write_traces(lessons, (unmarked(solve(prompt, n)) for prompt in prompts for n in LEVELS))
    student = CausalLM.wrap(tiny_lm.model(dim=64, seed=seed))
    module = data(lessons, seed, batch_size=4 * BATCH, per_prompt=None)
    fit(student, module, CrossEntropy(), folder, steps=steps, lr=5e-3)
    student.save_pretrained(folder / f"base{seed}", tokenizer=TOKENIZER)
    return {BASE: measure(student, held)}


def first_stage(
    name: str, file: Path, held: list[Trace], folder: Path, seed: int, steps: int
) -> dict[str, dict[str, float]]:
    """Train a student, and return what it is measured at, by the row of the table."""
    options, markers = STUDENTS[name]
    student = CausalLM(str(folder / f"base{seed}"))
    fit(student, data(file, seed, **options), CrossEntropy(), folder, steps=steps, lr=1e-3)
    if name == "mixed":
        student.save_pretrained(folder / f"mixed{seed}", tokenizer=TOKENIZER)
    return {
        f"{name}, asked with {marker.strip()!r}" if marker else name: measure(
            student, [replace(prompt, prompt=f"{marker}{prompt.prompt}") for prompt in held]
        )
        for marker in markers
    }


def second_stage(
    name: str, file: Path, held: list[Trace], folder: Path, seed: int, steps: int, lr: float
) -> dict[str, dict[str, float]]:
    """Go on from the student of all chains with pairs of a short and a long one."""
    objective = PAIRS[name]()
    source = str(folder / f"mixed{seed}")
    student = CausalLM(source)
    teacher = CausalLM(source) if "teacher" in objective.needs else None
    pairs = data(file, seed, kind="pairs", select=["length_pairs"], batch_size=32)
    fit(student, pairs, objective, folder, steps=steps, lr=lr, teacher=teacher)
    return {name: measure(student, held)}


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Means over seeds and standard errors, by row."""
    by_row: dict[str, list[dict[str, float]]] = {}
    for rows in results.values():
        for name, found in rows.items():
            by_row.setdefault(name, []).append(found)
    lines = ["| student | accuracy, % | tokens an answer | ended, % |", "| :-- | --: | --: | --: |"]
    for name, runs in by_row.items():
        cells = []
        for key, scale in (("accuracy", 100), ("tokens", 1), ("finished", 100)):
            values = [scale * run[key] for run in runs]
            error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            cells.append(f"{fmean(values):.1f} ± {error:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--prompts", type=int, default=4000)
    parser.add_argument("--held", type=int, default=500, help="prompts that are measured on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-steps", type=int, default=2000)
    parser.add_argument("--base-steps", type=int, default=800)
    parser.add_argument("--pair-steps", type=int, default=100)
    parser.add_argument("--pair-lr", type=float, default=1e-4)
    sizes = parser.parse_args()
    quiet()
    start, folder = time.time(), sizes.output
    folder.mkdir(parents=True, exist_ok=True)
    file, held = prepare(folder, sizes)
    print(f"prepared after {time.time() - start:.0f} s", flush=True)
    # five passes over one chain of each prompt, which is a whole curriculum
    prompts = {trace.prompt_id for trace in read_traces(str(file))}
    steps = len(LEVELS) * ceil(len(prompts) / BATCH)
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(sizes.seeds):
        for name in (BASE, *STUDENTS, *PAIRS):
            key = f"{name} {seed}"
            if key not in results:
                if name == BASE:
                    found = base(file, held, folder, seed, sizes.base_steps)
                elif name in STUDENTS:
                    found = first_stage(name, file, held, folder, seed, steps)
                else:
                    options = {"steps": sizes.pair_steps, "lr": sizes.pair_lr}
                    found = second_stage(name, file, held, folder, seed, **options)
                results[key] = found
                path.write_text(json.dumps(results, indent=1))
            print(f"{time.time() - start:.0f} s", key, results[key], flush=True)
    (folder / "table.md").write_text(table(results) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
