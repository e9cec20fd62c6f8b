"""Compare the logits of wrappers with those of the models that they wrap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from kdlight.doctor.fake_step import live_networks
from kdlight.doctor.module_parts import student_part
from kdlight.models import CausalLM
from kdlight.modules.base import DistillationBase

MAX_MULTIPLICATIONS = 1e12
"""Multiplications of two forward passes that take a few seconds on a CPU."""


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
        sizes = [1]
        apply_to_collection(batch, Tensor, lambda tensor, s=sizes: s.append(tensor.numel()))
        parameters = sum(p.numel() for p in network.parameters())
        if 2 * max(sizes) * parameters > MAX_MULTIPLICATIONS:
            yield f"{name}'s logits", "compared with the whole model at the first batch of a fit"
            continue
        was_fast = network.is_fast
        difference = network.compare_with_model(batch)
        if network.is_fast:
            how = f"by its head on its hidden states; they are the whole model's ({difference:.1g})"
        elif was_fast:
            how = f"by the whole model, as those of its head differ by {difference:.2g}"
        else:
            how = "by the whole model, as its head alone gives others"
        yield f"{name}'s logits", how
