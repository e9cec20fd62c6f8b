"""Does a training step work, and what does it come to?"""

from __future__ import annotations

from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from kdlight.doctor.dry_step import DryStep, dry_step, live_networks, real_step
from kdlight.doctor.findings import Finding, error, reason, warning
from kdlight.doctor.setting import Setting
from kdlight.modules import StandaloneModule

QUICK = 1e12
"""Products of a forward pass that takes a few seconds on a CPU."""


def try_step(module: StandaloneModule, batch: Any, setting: Setting) -> DryStep | Finding:
    """A step without numbers; where it fails, whether the run is to blame or only their absence."""
    try:
        return dry_step(module, batch, setting)
    except (ValueError, TypeError, KeyError) as failure:
        return _fails(failure)
    except Exception as failure:  # code of somebody's own may raise anything
        if _products(module, batch) > QUICK:
            return warning(f"a training step could not be looked at: {reason(failure)}")
        try:
            real_step(module, batch, setting)
        except Exception as real:  # as above
            return _fails(real)
        return warning(f"a training step works, but its sizes are not known: {reason(failure)}")


def _fails(failure: Exception) -> Finding:
    return error(f"a training step fails with {type(failure).__name__}: {reason(failure)}")


def _products(module: StandaloneModule, batch: Any) -> int:
    networks = [module.student, *live_networks(module.teacher)]
    sizes: list[int] = [1]
    apply_to_collection(batch, Tensor, lambda tensor: sizes.append(tensor.numel()))
    return max(sizes) * sum(p.numel() for network in networks for p in network.parameters())
