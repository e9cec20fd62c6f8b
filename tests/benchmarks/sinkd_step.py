"""Training steps of `SinkhornKD` and `ForwardKL` at the setting of ``configs/sinkd.yaml``.

Networks have the shapes of SmolLM2-135M and of 10 of its 30 layers, and random weights; a batch has
8 sequences of 128 random tokens, 1,016 predictions of 49,152 entries. "loss" is all from hidden
states to the gradients of states and head. "step" adds both networks, clipping and AdamW.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from kdlight import CausalLM, DistillationModule
from kdlight.objectives import ForwardKL, LossInputs, Objective, SinkhornKD
from tests.benchmarks.step_codes import pair

SEQUENCES, LENGTH = 8, 128
Turn = Callable[[Objective], None]


def objectives() -> dict[str, Objective]:
    """The two objectives, as their configs have them."""
    return {
        "forward_kl": ForwardKL(temperature=2.0),
        "sinkd": SinkhornKD(geometry="sequence", relative_epsilon=True),
    }


def turns(size: str) -> dict[str, Turn]:
    """What is measured of an objective."""
    teacher, student = pair(size)
    module: Any = DistillationModule(
        student=CausalLM.wrap(student), teacher=CausalLM.wrap(teacher), objective=ForwardKL()
    )
    parameters = list(module.student.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=5e-4)
    ids = torch.randint(teacher.config.vocab_size, (SEQUENCES, LENGTH))
    batch = {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}
    inputs = module.loss_inputs(batch)

    def loss(objective: Objective) -> None:
        hidden = inputs.student.hidden.detach().requires_grad_()
        states = replace(inputs.student, hidden=hidden)
        objective(LossInputs(states, inputs.teacher, inputs.labels, inputs.mask)).mean().backward()

    def step(objective: Objective) -> None:
        optimizer.zero_grad()
        objective(module.loss_inputs(batch)).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return {"loss": loss, "step": step}


def report(rounds: int, size: str = "full") -> None:
    """Print seconds and the median of the rounds' ratios, of interleaved turns."""
    torch.manual_seed(0)
    for name, turn in turns(size).items():
        found = [
            {key: _seconds(turn, each) for key, each in objectives().items()}
            for _ in range(rounds + 1)
        ][1:]
        ratio = statistics.median(each["sinkd"] / each["forward_kl"] for each in found)
        times = {key: statistics.median(each[key] for each in found) for key in found[0]}
        figures = ", ".join(f"{key} {seconds:.2f} s" for key, seconds in times.items())
        print(f"{name}: {figures}, ratio {ratio:.2f}", flush=True)


def _seconds(turn: Turn, objective: Objective) -> float:
    start = time.perf_counter()
    turn(objective)
    return time.perf_counter() - start
