"""Layer-wise, then reverse KL, then cross-entropy: each step is that of its stage, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.support import toy
from tests.support.stages_fit import (
    BOUNDARY,
    LAYER_LR,
    LAYER_STEPS,
    LR,
    STEPS,
    fit,
    fit_on_ranks,
    largest_difference,
)


def batches(size: int) -> Iterator[dict[str, Tensor]]:
    """The rows of the data, over and over."""
    data = toy.Ragged(24)
    while True:
        for start in range(0, 24, size):
            yield toy.pad([data[i] for i in range(start, start + size)])


def valid(batch: dict[str, Tensor]) -> Tensor:
    mask = torch.zeros_like(batch["labels"], dtype=torch.bool)
    mask[:, :-1] = batch["labels"][:, 1:] != -100
    return mask


def layers_by_hand(student: Any, teacher: Any, size: int) -> None:
    """Train both layers on inputs and outputs of the teacher's."""
    optimizer = torch.optim.AdamW(student.layers.parameters(), lr=LAYER_LR["toy"])
    for step, batch in zip(range(LAYER_STEPS), batches(size), strict=False):
        optimizer.param_groups[0]["lr"] = LAYER_LR["toy"] * (1 - step / LAYER_STEPS)
        optimizer.zero_grad()
        hidden = teacher.embed(batch["input_ids"])
        for ours, theirs in zip(student.layers, teacher.layers, strict=True):
            target = theirs(hidden).detach()
            ours_out = ours(hidden.detach())
            ((ours_out - target)[valid(batch)] ** 2).mean(-1).sum().backward()
            hidden = torch.tanh(target)
        for parameter in student.layers.parameters():
            parameter.grad /= valid(batch).sum()
        optimizer.step()


def logits(network: Any, batch: dict[str, Tensor]) -> Tensor:
    hidden = network.embed(batch["input_ids"])
    for layer in network.layers:
        hidden = torch.tanh(layer(hidden))
    return network.head(hidden)[valid(batch)]


def loss_by_hand(student: Any, teacher: Any, batch: dict[str, Tensor], step: int) -> Tensor:
    """The sum over tokens of the loss of the stage that ``step`` belongs to."""
    log_q = logits(student, batch).log_softmax(-1)
    if step < BOUNDARY:
        log_p = logits(teacher, batch).detach().log_softmax(-1)
        return (log_q.exp() * (log_q - log_p)).sum()
    labels = batch["labels"].roll(-1, 1)[valid(batch)]
    return cross_entropy(log_q, labels, reduction="sum")


def by_hand(size: int, accumulate: int) -> list[dict[str, Tensor]]:
    student, teacher = toy.ToyLM(seed=1).double(), toy.ToyLM(seed=2).double()
    layers_by_hand(student, teacher, size)
    optimizer = torch.optim.SGD(student.parameters(), lr=LR, momentum=0.9)
    rows = batches(size)
    weights = [{name: value.clone() for name, value in student.state_dict().items()}]
    for step in range(STEPS):
        optimizer.zero_grad()
        tokens = 0
        for _ in range(accumulate):
            batch = next(rows)
            loss_by_hand(student, teacher, batch, step).backward()
            tokens += int(valid(batch).sum())
        for parameter in student.parameters():
            assert parameter.grad is not None
            parameter.grad /= tokens
        optimizer.step()
        weights.append({name: value.clone() for name, value in student.state_dict().items()})
    return weights


@pytest.mark.parametrize(("size", "accumulate"), [(8, 1), (4, 2), (8, 3)])
def test_each_step_is_that_of_a_loop_by_hand(size: int, accumulate: int) -> None:
    found = fit({"batch_size": size, "accumulate": accumulate})["weights"]
    expected = by_hand(size, accumulate)
    assert len(found) == len(expected) == STEPS + 1
    for one, other in zip(found, expected, strict=True):
        assert largest_difference(one, other) < 1e-12
    # a boundary that is off by a step, or a stage without the layers, would show
    moved = [largest_difference(a, b) for a, b in zip(expected, expected[1:], strict=False)]
    assert min(moved) > 1e-4
    start = dict(toy.ToyLM(seed=1).double().state_dict())
    assert largest_difference(start, expected[0]) > 1e-2


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# in the first stage between steps and within one, at the boundary, in the second stage
@pytest.mark.parametrize("network", ["toy", pytest.param("hybrid", marks=pytest.mark.slow)])
def test_a_run_resumes_to_the_same_bits_within_a_stage_and_between_stages(
    network: str, tmp_path: Path
) -> None:
    accumulate = 2
    at = [2 * 2, BOUNDARY * 2 - 1, BOUNDARY * 2, BOUNDARY * 2 + 1, (STEPS - 1) * 2]
    options = {"network": network, "batch_size": 2, "accumulate": accumulate}
    whole = fit({**options, "folder": tmp_path, "save": [each - 1 for each in at]})
    assert len(whole["layer_losses"]) == LAYER_STEPS
    assert whole["layer_losses"][-1] < whole["layer_losses"][0]
    for batch in at:
        resumed = fit({**options, "resume": tmp_path / f"batch={batch - 1}.ckpt"})
        done = batch // accumulate
        assert resumed["layer_losses"] == whole["layer_losses"]  # kept, not computed again
        assert len(resumed["weights"]) == STEPS - done + 1
        for one, other in zip(resumed["weights"], whole["weights"][done:], strict=True):
            assert equal(one, other), batch


@pytest.mark.slow
def test_ranks_take_the_steps_of_one_process(tmp_path: Path) -> None:
    split = {"batch_size": 4, "steps": 4}
    cases = {
        "toy": {**split, "strategy": "ddp"},
        "hybrid": {**split, "strategy": "ddp", "network": "hybrid"},
        "sharded": {**split, "strategy": "fsdp2", "network": "hybrid", "layers": False},
        "refused": {**split, "strategy": "fsdp2", "network": "hybrid"},
    }
    ranks = fit_on_ranks(cases, tmp_path)
    for rank in ranks:
        assert "layer-wise distillation calls modules of the student" in rank["refused"]["error"]
    # mixers compute in float32, whatever the dtype of the weights, but row by row
    for name, tolerance in (("toy", 1e-12), ("hybrid", 1e-9), ("sharded", 1e-9)):
        one = fit({**cases[name], "batch_size": 8, "strategy": "auto"})
        for rank in ranks:
            for ours, theirs in zip(rank[name]["weights"], one["weights"], strict=True):
                assert largest_difference(theirs, ours) < tolerance, name
            assert rank[name]["layer_losses"] == pytest.approx(one["layer_losses"], rel=tolerance)
        for first, second in zip(*(rank[name]["weights"] for rank in ranks), strict=True):
            assert equal(first, second)


def test_the_teacher_does_not_change() -> None:
    before = toy.ToyLM(seed=2).double().state_dict()
    assert equal(fit({"steps": 1})["teacher"], dict(before))
