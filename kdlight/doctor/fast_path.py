"""Compare the logits of wrappers with those of the models that they wrap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kdlight.doctor.fake_step import live_networks
from kdlight.doctor.module_parts import student_part
from kdlight.doctor.step_check import MAX_REAL_STEP, multiplications
from kdlight.models import CausalLM
from kdlight.modules.base import DistillationBase


def fast_paths(module: DistillationBase, batch: Any) -> Iterator[tuple[str, str]]:
    """Yield for student and teachers how their logits are computed, as facts of a report.

    A fit makes the same comparison at its first batch. Networks that would take long are left to
    it.
    """
    networks = [("student", student_part(module))]
    networks += [("teacher", each) for each in live_networks(module.teacher)]
    for name, network in networks:
        if not isinstance(network, CausalLM):
            continue
        if 2 * multiplications([network], batch) > MAX_REAL_STEP:  # each way once
            yield "fast path", f"{name}: compared with the whole model at the first batch of a fit"
            continue
        was_fast = network.is_fast
        difference = network.compare_with_model(batch)
        if network.is_fast:
            how = f"by its head on its hidden states; they are the whole model's ({difference:.1g})"
        elif was_fast:
            how = f"by the whole model, as those of its head differ by {difference:.2g}"
        else:
            how = "by the whole model, as its head alone gives others"
        yield "fast path", f"{name}: logits are computed {how}"
