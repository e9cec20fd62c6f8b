"""Contexts in which the networks of a run are evaluated without an effect on its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from kdlight.models.evaluating import evaluating


@contextmanager
def inference_context(trainer: Trainer, module: nn.Module) -> Iterator[None]:
    """Set eval mode, the precision of the run and no gradients, and restore everything after.

    The states of the random generators are restored, too.
    """
    precision = trainer.precision_plugin.forward_context()
    with isolate_rng(), torch.no_grad(), evaluating(module), precision:
        yield
