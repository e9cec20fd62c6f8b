"""Check that a training step works, on fake tensors where that is possible."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from kdlight.doctor.fake_step import FakeStep, fake_step, live_networks, real_step
from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.doctor.module_parts import student_part
from kdlight.doctor.run_environment import RunEnvironment
from kdlight.modules.base import DistillationBase

MAX_REAL_STEP = 1e12
"""Multiplications of a forward pass that takes a few seconds on a CPU."""


def check_step(
    module: DistillationBase, batch: Any, environment: RunEnvironment
) -> FakeStep | Finding:
    """Return a step on fake tensors, or the finding that it fails.

    Code that reads values fails on fake tensors. If a step with values is quick, it is tried, too.
    """
    try:
        return fake_step(module, batch, environment)
    except (ValueError, TypeError, KeyError) as failure:
        return _step_fails(failure)
    except Exception as failure:  # user code may raise anything
        networks = [student_part(module), *live_networks(module.teacher)]
        if multiplications(networks, batch) > MAX_REAL_STEP:
            return warning(f"a training step could not be checked: {reason(failure)}")
        try:
            real_step(module, batch, environment)
        except Exception as real_failure:  # as above
            return _step_fails(real_failure)
        return warning(f"a training step works, but its sizes are not known: {reason(failure)}")


def _step_fails(failure: Exception) -> Finding:
    return error(f"a training step fails with {type(failure).__name__}: {reason(failure)}")


def multiplications(networks: Iterable[nn.Module], batch: Any) -> int:
    """Estimate the multiplications of the forward passes of networks.

    Example:
        >>> import torch
        >>> multiplications([nn.Linear(4, 3, bias=False)], torch.zeros(2, 4))
        96
    """
    sizes: list[int] = [1]
    apply_to_collection(batch, Tensor, lambda tensor: sizes.append(tensor.numel()))
    return max(sizes) * sum(p.numel() for network in networks for p in network.parameters())
