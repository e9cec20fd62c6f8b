"""The doctor as a whole: its estimate of a step, and that it changes nothing."""

from __future__ import annotations

import gc
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from kdlight.doctor import examine
from tests.support import toy
from tests.support.doctor_runs import known, make_data, make_module


def test_a_step_takes_about_the_estimated_memory(tmp_path: Path) -> None:
    """The peak of what torch allocates in a step, within a factor of two."""
    report = examine(make_module("toy"), make_data(), toy.trainer(tmp_path))
    module = make_module("toy")
    batch = toy.pad([make_data().data[index] for index in range(16)])
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        module.objective(module.loss_inputs(batch)).total.backward()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()  # type: ignore[attr-defined]
            peak = max(peak, held)
    step = ("gradients", "activations (estimate)", "logits of the student, dense")
    estimate = sum(known(report, name) for name in (*step, "logits of the teacher, dense"))
    assert peak / 2 < estimate < peak * 2, (estimate, peak)


def test_it_changes_no_weight(tmp_path: Path) -> None:
    module = make_module("llama")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    examine(module, make_data(), toy.trainer(tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert list(tmp_path.iterdir()) == []
