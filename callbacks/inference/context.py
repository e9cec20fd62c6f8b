"""Contexts in which the networks of a run are evaluated without an effect on its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn


@contextmanager
def inference_context(trainer: Trainer, module: nn.Module) -> Iterator[None]:
    """Set eval mode, the precision of the run and no gradients, and restore everything after.

    The states of the random generators are restored, too.
    """
    precision = trainer.precision_plugin.forward_context()
    with isolate_rng(), torch.no_grad(), eval_mode(module), precision:
        yield


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Set eval mode, and restore the mode of every submodule after.

    Example:
        >>> network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with eval_mode(network):
        ...     network.training
        False
        >>> [part.training for part in network.modules()]
        [True, True, False]
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
