"""Logits of a classifier, and calibration measured on them in batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight.metrics import predictions


def measure(metric: Any, logits: Tensor, labels: Tensor, *, batch: int = 10**6) -> float:
    """Update a calibration error with batches of rows, and return its value."""
    for rows in torch.arange(len(logits)).split(batch):
        metric.update(*predictions(logits[rows], labels[rows]))
    return metric.compute().item()


def classifier(
    count: int, generator: torch.Generator, *, scale: float = 3.0
) -> tuple[Tensor, Tensor]:
    """Logits ``(n, V)`` that often predict the label, some with a confidence of 1, and labels."""
    logits = scale * torch.randn(count, 6, generator=generator)
    labels = (logits / scale + torch.randn(count, 6, generator=generator)).argmax(-1)
    logits[::20] *= 30  # a confidence of exactly 1
    return logits, labels
