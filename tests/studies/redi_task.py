"""The task of the study in redi.py: sums of digits by reasoning-gym, answered step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kdlight import CausalLM, DistillationModule
from kdlight.data import TracesDataModule
from kdlight.data.traces import Sampling, Trace, answer
from kdlight.data.traces.chat import tokenize
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.verification.verifiers import reasoning_gym
from kdlight.losses import sequence_log_probs
from kdlight.objectives import Objective
from tests.support import tiny_lm, toy

TOKENIZER = tiny_lm.tokenizer()
LENGTH = 24
OPTIONS = {"min_terms": 3, "max_terms": 6, "max_digits": 1}


def sums(size: int, seed: int, **options: int) -> list[Trace]:
    """Prompts such as ``3-4+9=``: the expression of the task, without the sentence around it."""
    task = {**OPTIONS, **options}
    prompts = read_prompts("reasoning_gym:chain_sum", size=size, seed=seed, options=task)
    short = {}
    for prompt in prompts:
        text = prompt.meta["metadata"]["expression"].replace(" ", "") + "="
        short[text] = replace(prompt, prompt=text, prompt_id=text)
    return list(short.values())


def solve(prompt: Trace) -> Trace:
    """The answer that teaches the teacher: every partial sum on a line of its own."""
    first, *rest = prompt.meta["metadata"]["expression"].split()
    total, lines = int(first), []
    for sign, digit in zip(rest[::2], rest[1::2], strict=True):
        total += int(digit) if sign == "+" else -int(digit)
        lines.append(str(total))
    return replace(prompt, response="\n".join(lines), score=1.0)


def fit(
    student: CausalLM,
    data: TracesDataModule,
    objective: Objective,
    folder: Path,
    *,
    steps: int,
    lr: float,
    teacher: CausalLM | None = None,
    callbacks: list[Callback] | None = None,
) -> Trainer:
    """AdamW, with a warm-up over a tenth of the steps and a linear decay to 0, as the authors'."""

    def schedule(optimizer: Optimizer) -> LambdaLR:
        warm = max(steps // 10, 1)
        return LambdaLR(optimizer, lambda i: min((i + 1) / warm, (steps - i) / (steps - warm)))

    torch.manual_seed(0)
    module = DistillationModule(
        student=student,
        objective=objective,
        teacher=teacher,
        optimizer=lambda groups: AdamW(groups, lr=lr, weight_decay=1e-4),
        lr_scheduler=schedule,
    )
    trainer = toy.trainer(
        folder,
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        callbacks=callbacks or [],
    )
    trainer.fit(module, data)
    return trainer


class Held(NamedTuple):
    """What a student is measured on: prompts it never saw, with right and wrong answers."""

    prompts: list[Trace]
    right: list[Trace]
    wrong: list[Trace]


def measure(student: Any, held: Held) -> dict[str, float]:
    """Accuracy of greedy answers, and mean log-probabilities of right and wrong ones."""
    options = Sampling(max_new_tokens=LENGTH, temperature=0.0).options()
    said = answer(student, TOKENIZER, held.prompts, chat=False, **options)
    return {
        "accuracy": sum(reasoning_gym(each) == 1.0 for each in said) / len(said),
        "finished": sum(bool(each.finished) for each in said) / len(said),
        "right": log_prob(student, held.right),
        "wrong": log_prob(student, held.wrong),
    }


@torch.no_grad()
def log_prob(student: Any, traces: list[Trace]) -> float:
    """Mean over traces of the mean log-probability of a token."""
    rows = [tokenize(trace, TOKENIZER, chat=False) for trace in traces]
    longest = max(len(row.prompt) + len(row.completion) for row in rows)
    ids, labels = torch.zeros(2, len(rows), longest, dtype=torch.long)
    labels -= 100
    for i, (prompt, completion) in enumerate(rows):
        both = torch.tensor(prompt + completion)
        ids[i, : len(both)] = both
        labels[i, len(prompt) - 1 : len(both) - 1] = both[len(prompt) :]
    total, lengths = sequence_log_probs(student.eval()({"input_ids": ids}).logits(), labels)
    return (total / lengths).mean().item()
