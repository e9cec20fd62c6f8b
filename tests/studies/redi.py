"""A study: traces of a teacher, a student fitted to the right ones, and what wrong ones add.

    python -m tests.studies.redi --output FOLDER

Prompts are sums of digits by reasoning-gym, which also scores every answer. The teacher is a small
model trained here to partial skill; it answers each prompt several times. A student learns from one
right answer a prompt (stage 1), is exported, and from there every row of the table goes on with the
same pairs, the same number of steps and the same cost (DPO has its reference model besides): REDI
with several alphas, of which 0 knows no wrong answers, then unlikelihood, SimPO and DPO, each at
three learning rates. A run is said to have collapsed where the log-probability of right answers to
unseen prompts has fallen by more than 0.4 nats a token, the threshold of REDIGuard. The last rows
repeat the worst of them under each action of the guard.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from kdlight import CausalLM
from kdlight.callbacks import REDIGuard
from kdlight.data import TracesDataModule, read_traces
from kdlight.data.traces import Sampling, generate_traces, verified_rejection, write_traces
from kdlight.data.traces.verification.verifiers import reasoning_gym
from kdlight.data.traces.verification.verify import verify_traces
from kdlight.objectives import DPO, REDI, CrossEntropy, Objective, SimPO, Unlikelihood
from tests.studies.redi_picture import draw
from tests.studies.redi_task import LENGTH, TOKENIZER, Held, fit, measure, solve, sums
from tests.support import tiny_lm

RATES = (1e-4, 5e-4, 2e-3)
THRESHOLD = 0.4
METHODS: dict[str, Callable[[], Objective]] = {
    **{f"REDI, alpha {a}": lambda a=a: REDI(alpha=a) for a in (0.0, 0.2, 0.5, 0.8, 1.0)},
    "unlikelihood, alpha 0.8": lambda: Unlikelihood(alpha=0.8),
    "SimPO, beta 2, gamma 1": lambda: SimPO(beta=2.0, gamma=1.0),
    "DPO, beta 0.1": lambda: DPO(beta=0.1),
}
GUARDED = ("lower_alpha", "roll_back", "stop")


class Curve(Callback):
    """Keeps the log-probability of right answers after every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.values.append(trainer.callback_metrics["train/chosen_log_prob"].item())


def data(files: list[Path] | Path, kind: Any, seed: int, **options: Any) -> TracesDataModule:
    names = [str(file) for file in (files if isinstance(files, list) else [files])]
    return TracesDataModule(
        TOKENIZER, names, kind=kind, validation_fraction=0.0, seed=seed, **options
    )


def prepare(folder: Path, sizes: argparse.Namespace) -> tuple[CausalLM, Held, list[Path]]:
    """The teacher's traces, the student of stage 1, and what it is measured on."""
    prompts = sums(sizes.prompts, seed=0)
    seen = {prompt.prompt_id for prompt in prompts}
    unseen = [prompt for prompt in sums(sizes.prompts, seed=10**6) if prompt.prompt_id not in seen]
    write_traces(folder / "solutions.jsonl", map(solve, prompts))
    teacher = CausalLM.wrap(tiny_lm.model(dim=64))
    lessons = data(folder / "solutions.jsonl", "positives", 0, batch_size=64)
    fit(teacher, lessons, CrossEntropy(), folder, steps=sizes.teacher_steps, lr=3e-3)
    files = []
    for name, asked in (("train", prompts), ("held_out", unseen[:400])):
        path = folder / f"{name}.jsonl"
        sampling = Sampling(max_new_tokens=LENGTH, temperature=1.0)
        generate_traces(
            teacher,
            TOKENIZER,
            asked,
            path,
            sampling=sampling,
            samples=4,
            chat=False,
            batch_size=256,
        )
        right, wrong, _ = verify_traces(read_traces(str(path)), reasoning_gym)
        both = verified_rejection(right + wrong, threshold=1.0)
        wrong = [trace for trace in both if trace.score != 1]
        print(f"{name}: {len(asked)} prompts, {len(right)} right, {len(wrong)} wrong beside them")
        if name == "train":
            files = [folder / "positives.jsonl", folder / "negatives.jsonl"]
            write_traces(files[0], right)
            write_traces(files[1], wrong)
    held = Held(unseen[:1000], right, wrong)
    print(f"teacher: {describe(measure(teacher, held))}")
    student = CausalLM.wrap(tiny_lm.model(dim=48, seed=1))
    fit(
        student,
        data(files[0], "positives", 0, batch_size=64),
        CrossEntropy(),
        folder,
        steps=sizes.student_steps,
        lr=3e-3,
    )
    student.save_pretrained(folder / "student", tokenizer=TOKENIZER)
    return student, held, files


def second_stage(
    folder: Path,
    files: list[Path],
    objective: Objective,
    held: Held,
    *,
    steps: int,
    lr: float,
    action: Any = "warn",
) -> dict[str, Any]:
    """One row: from the export of stage 1 to what became of it."""
    student, watch = CausalLM(str(folder / "student")), Curve()
    guard = REDIGuard(threshold=THRESHOLD, action=action, snapshot_every=10)
    teacher = CausalLM(str(folder / "student")) if "teacher" in objective.needs else None
    pairs = data(files, "pairs", 1, batch_size=32, per_prompt=None)
    trainer = fit(
        student,
        pairs,
        objective,
        folder,
        steps=steps,
        lr=lr,
        teacher=teacher,
        callbacks=[guard, watch],
    )
    alpha = getattr(objective, "alpha", None)
    found = measure(student, held)
    return {**found, "steps": trainer.global_step, "curve": watch.values, "alpha": alpha}


def describe(found: dict[str, Any]) -> str:
    return (
        f"accuracy {found['accuracy']:.3f}, log-probabilities of right and wrong answers"
        f" {found['right']:.2f} and {found['wrong']:.2f}"
    )


def line(name: str, lr: float, found: dict[str, Any], before: dict[str, float]) -> str:
    fall = before["right"] - found["right"]
    fate = f"**yes** ({fall:.1f})" if fall > THRESHOLD else "no"
    return (
        f"| {name} | {lr:g} | {found['steps']} | {found['accuracy']:.3f} | {found['right']:.2f} |"
        f" {found['wrong']:.2f} | {found['finished']:.2f} | {fate} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--prompts", type=int, default=3000)
    parser.add_argument("--teacher-steps", type=int, default=1200)
    parser.add_argument("--student-steps", type=int, default=800)
    parser.add_argument("--steps", type=int, default=100, help="of the second stage")
    sizes = parser.parse_args()
    quiet()
    start, folder = time.time(), sizes.output
    folder.mkdir(parents=True, exist_ok=True)
    student, held, files = prepare(folder, sizes)
    before = measure(student, held)
    print(f"stage 1: {describe(before)}, after {time.time() - start:.0f} s")
    rows = [
        "| stage 2 | learning rate | steps | accuracy | right | wrong | ended | collapsed (nats) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        line("(stage 1 alone)", 0.0, {**before, "steps": 0}, before),
    ]
    results: dict[tuple[str, float], dict[str, Any]] = {}
    for name, make in METHODS.items():
        for lr in RATES:
            found = second_stage(folder, files, make(), held, steps=sizes.steps, lr=lr)
            results[name, lr] = found
            rows.append(line(name, lr, found, before))
            print(rows[-1], flush=True)
    for action in GUARDED:
        found = second_stage(
            folder, files, REDI(alpha=1.0), held, steps=sizes.steps, lr=RATES[-1], action=action
        )
        name = f"REDI, alpha 1.0, guard: {action}, alpha {found['alpha']:.2f} at the end"
        rows.append(line(name, RATES[-1], found, before))
        print(rows[-1], flush=True)
    (folder / "table.md").write_text("\n".join(rows) + "\n")
    curves = [{"name": name, "lr": lr, **found} for (name, lr), found in results.items()]
    (folder / "results.json").write_text(json.dumps(curves))
    draw(folder / "redi.svg", results, before, RATES)
    print(f"{folder / 'table.md'}, {folder / 'redi.svg'}: {time.time() - start:.0f} s")


def quiet() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


if __name__ == "__main__":
    main()
